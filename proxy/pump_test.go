package proxy

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
	"crossfade/proxy/wire"
)

// echo is a session between two sockets of this process: near is the client's end,
// and a server behind it answers every read with the same bytes.
func echo(tb testing.TB, answer []byte, rewritten bool) (near net.Conn, r *relay) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	accepted := make(chan net.Conn, 1)
	pair := func() (net.Conn, net.Conn) {
		go func() {
			c, err := l.Accept()
			if err == nil {
				accepted <- c
			}
		}()
		a, err := net.Dial("tcp", l.Addr().String())
		require.NoError(tb, err)
		return a, <-accepted
	}
	near, client := pair()
	conn, server := pair()
	require.NoError(tb, l.Close())
	known := Endpoint{Dial: backend.Config{Address: "127.0.0.1:1"}, Credentials: func(u string) (string, string, bool) { return u, "", true }}
	p, err := New(Config{Listen: "127.0.0.1:0", Auth: auth.NewUsers(), Source: known, Target: known, Log: zerolog.Nop()})
	require.NoError(tb, err)
	require.NoError(tb, p.listener.Close())
	x := &login{stranger: &stranger{p: p, base: context.Background(), conn: client}, user: "u", database: "d", version: wire.Version30}
	r = x.relay(&p.cfg.Source, "u", &backend.Conn{Conn: conn, PID: 7, Params: map[string]string{}}, rewritten)

	done, served := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		r.run()
	}()
	go func() {
		defer close(served)
		buf := make([]byte, 64<<10)
		for {
			if _, err := server.Read(buf); err != nil {
				return
			}
			if _, err := server.Write(answer); err != nil {
				return
			}
		}
	}()
	tb.Cleanup(func() {
		_ = near.Close()
		<-done
		_ = server.Close()
		<-served
	})
	return near, r
}

func rowAnswer() []byte {
	b := wire.AppendFrame(nil, 'T', []byte("\x00\x01id\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00"))
	b = wire.AppendFrame(b, 'D', []byte("\x00\x01\x00\x00\x00\x0242"))
	b = wire.AppendFrame(b, 'C', []byte("SELECT 1\x00"))
	return wire.AppendReadyForQuery(b, 'I')
}

func TestPumpsAllocateNothing(t *testing.T) {
	for _, rewritten := range []bool{false, true} {
		answer := rowAnswer()
		near, _ := echo(t, answer, rewritten)
		request := wire.AppendQuery(nil, "SELECT id FROM accounts WHERE id = 42")
		buf := make([]byte, len(answer))
		once := func() {
			_, err := near.Write(request)
			if err == nil {
				_, err = io.ReadFull(near, buf)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			once()
		}
		// The pool may lose a buffer to the collector now and then.
		require.Less(t, testing.AllocsPerRun(2000, once), 0.1)
	}
}

func TestAnIdleSessionPinsNoBuffer(t *testing.T) {
	t.Parallel()
	answer := rowAnswer()
	near, r := echo(t, answer, false)
	_, err := near.Write(wire.AppendQuery(nil, "SELECT 1"))
	require.NoError(t, err)
	_, err = io.ReadFull(near, make([]byte, len(answer)))
	require.NoError(t, err)
	// With the turn of both pumps nobody moves, and their readers can be looked at.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, release, err := r.own(ctx)
	require.NoError(t, err)
	defer release()
	s, err := r.seize(ctx)
	require.NoError(t, err)
	require.Nil(t, s.in.buf)
	r.unseize()
}

func BenchmarkRoundTrip(b *testing.B) {
	for name, rewritten := range map[string]bool{"plain": false, "moved": true} {
		b.Run(name, func(b *testing.B) {
			answer := rowAnswer()
			near, _ := echo(b, answer, rewritten)
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
	request := wire.AppendQuery(nil, "SELECT id FROM accounts WHERE id = 42")
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
	for name, rewritten := range map[string]bool{"plain": false, "moved": true} {
		b.Run(name, func(b *testing.B) {
			near, _ := echo(b, answer, rewritten)
			b.SetBytes(int64(len(answer)))
			roundTrips(b, near, answer)
		})
	}
}
