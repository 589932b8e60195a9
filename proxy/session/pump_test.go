package session

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/backend"
	"crossfade/proxy/poll"
	"crossfade/proxy/route"
	"crossfade/proxy/side"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// echo is a session between two sockets of this process: near is the client's end,
// and a server behind it answers every read with the same bytes.
func echo(tb testing.TB, answer []byte, how played) (near net.Conn, r *Session) {
	tb.Helper()
	near, r, server := between(tb, how)
	served := make(chan struct{})
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
		_ = server.Close()
		<-served
	})
	return near, r
}

// played says how a session of these tests is served.
type played struct {
	rewritten bool      // it has moved
	tls       bool      // both connections are encrypted
	pieces    bool      // what the two ends send comes in pieces
	pumps     bool      // without the engine
	in        *Registry // among others; nil for one of its own
}

// bare is a registry without sessions, with its engine.
func bare(tb testing.TB, pumps bool) *Registry {
	sides := (&side.Sides{Router: route.NewRouter(route.Route{Endpoint: side.Source})}).Limit(1)
	p := NewRegistry(zerolog.Nop(), sides, Limits{HoldLimit: time.Minute, ReviveTimeout: time.Minute})
	if !pumps {
		p.Engine.Start(zerolog.Nop())
		tb.Cleanup(p.Engine.Stop)
	}
	return p
}

// between is a session between two sockets of this process, the client's and the
// server's end. It ends with the test.
func between(tb testing.TB, how played) (near net.Conn, r *Session, server net.Conn) {
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
	conn, far := pair()
	require.NoError(tb, l.Close())
	if how.tls {
		if how.pieces {
			near, far = pieces{near}, pieces{far}
		}
		near, client = encrypted(tb, near, client)
		conn, far = encrypted(tb, conn, far)
	}
	p := how.in
	if p == nil {
		p = bare(tb, how.pumps)
	}
	r = New(context.Background(), p, Identity{User: "u", Database: "d", Key: NewKey(wire.Version30)}, client, ServedBy{
		At: &p.Sides.Source, Name: "u", Conn: &backend.Conn{Conn: conn, PID: 7, Params: map[string]string{}}, Moved: how.rewritten})

	done := make(chan struct{})
	r.Begin(func() { close(done) })
	for _, c := range []net.Conn{near, far} {
		_ = c.SetDeadline(time.Now().Add(60 * time.Second)) // a byte that is lost is an error, and no wait without an end
	}
	tb.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
		<-done
	})
	return near, r, far
}

// encrypted begins TLS between the two ends of a connection, as proxies do on their ends.
func encrypted(tb testing.TB, asks, answers net.Conn) (client, server net.Conn) {
	tb.Helper()
	near := tls.Client(poll.NewConn(asks, nil), &tls.Config{InsecureSkipVerify: true})
	der, key := pair(tb)
	far := tls.Server(poll.NewConn(answers, nil), &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	done := make(chan error, 1)
	go func() { done <- far.Handshake() }()
	require.NoError(tb, near.Handshake())
	require.NoError(tb, <-done)
	return near, far
}

// pieces is a connection that sends three bytes at a time.
type pieces struct{ net.Conn }

func (c pieces) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = c.Conn.Write(p[n:min(len(p), n+3)])
		n += m
	}
	return n, err
}

func rowAnswer() []byte {
	b := wire.AppendFrame(nil, 'T', []byte("\x00\x01id\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00"))
	b = wire.AppendFrame(b, 'D', []byte("\x00\x01\x00\x00\x00\x0242"))
	b = wire.AppendFrame(b, 'C', []byte("SELECT 1\x00"))
	return wire.AppendReadyForQuery(b, 'I')
}

func TestSessionsAllocateNothing(t *testing.T) {
	for _, how := range []played{{}, {rewritten: true}, {pumps: true}, {rewritten: true, pumps: true}} {
		answer := rowAnswer()
		near, r := echo(t, answer, how)
		request := wiretest.AppendQuery(nil, "SELECT id FROM accounts WHERE id = 42")
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
		require.Less(t, testing.AllocsPerRun(2000, once), allowed, "%+v", how)
		require.Equal(t, !how.pumps && engineHere, r.attached())
	}
}

func TestAnIdleSessionPinsNoBuffer(t *testing.T) {
	t.Parallel()
	answer := rowAnswer()
	near, r := echo(t, answer, played{})
	_, err := near.Write(wiretest.AppendQuery(nil, "SELECT 1"))
	require.NoError(t, err)
	_, err = io.ReadFull(near, make([]byte, len(answer)))
	require.NoError(t, err)
	// With the turn of both pumps nobody moves, and their readers can be looked at.
	ctx, cancel := context.WithTimeout(t.Context(), pgtest.Timeout)
	defer cancel()
	_, release, err := r.Owner.Own(ctx)
	require.NoError(t, err)
	defer release()
	s, err := r.Owner.seize(ctx)
	require.NoError(t, err)
	require.False(t, s.in.HasBuffer())
	r.Owner.unseize()
}
