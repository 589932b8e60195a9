package session

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

var servedHow = map[string]played{"engine": {}, "engine/moved": {rewritten: true}, "pumps": {pumps: true}, "pumps/moved": {rewritten: true, pumps: true}}

func BenchmarkRoundTrip(b *testing.B) {
	for name, how := range servedHow {
		b.Run(name, func(b *testing.B) {
			answer := rowAnswer()
			near, _ := echo(b, answer, how)
			roundTrips(b, near, answer)
		})
	}
	b.Run("without", func(b *testing.B) {
		answer := rowAnswer()
		near, stop := direct(b, answer)
		defer stop()
		roundTrips(b, near, answer)
	})
}

func roundTrips(b *testing.B, near net.Conn, answer []byte) {
	request := wiretest.AppendQuery(nil, "SELECT id FROM accounts WHERE id = 42")
	buf := make([]byte, len(answer))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := near.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(near, buf); err != nil {
			b.Fatal(err)
		}
	}
}

// direct is the echo server with nothing between.
func direct(b *testing.B, answer []byte) (net.Conn, func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 64<<10)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}()
	near, err := net.Dial("tcp", l.Addr().String())
	require.NoError(b, err)
	return near, func() {
		_ = near.Close()
		_ = l.Close()
		<-done
	}
}

func BenchmarkResult(b *testing.B) {
	var answer []byte
	row := wire.AppendFrame(nil, 'D', append([]byte("\x00\x01\x00\x00\x00\x64"), make([]byte, 100)...))
	for range 10000 {
		answer = append(answer, row...)
	}
	answer = wire.AppendFrame(answer, 'C', []byte("SELECT 10000\x00"))
	answer = wire.AppendReadyForQuery(answer, 'I')
	for name, how := range servedHow {
		b.Run(name, func(b *testing.B) {
			near, _ := echo(b, answer, how)
			b.SetBytes(int64(len(answer)))
			roundTrips(b, near, answer)
		})
	}
}
