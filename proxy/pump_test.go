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

	p.engines.start(p)
	done, served := make(chan struct{}), make(chan struct{})
	r.begin(func() { close(done) })
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
		p.engines.stop()
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
		// The pool may lose a buffer to the collector now and then; the race
		// detector has it lose them on purpose.
		allowed := 0.1
		if raceEnabled {
			allowed = 4
		}
		require.Less(t, testing.AllocsPerRun(2000, once), allowed)
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
