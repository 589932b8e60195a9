package proxy

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/proxy/auth"
	"crossfade/proxy/wire"
)

// moody stands before a server and answers its first connections as Neon's proxy does.
type moody struct {
	net.Listener
	server  string
	refuses atomic.Int32 // connections still to be refused
	words   string
	met     atomic.Int32
}

func newMoody(t *testing.T, server, words string, refuses int32) *moody {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	m := &moody{Listener: l, server: server, words: words}
	m.refuses.Store(refuses)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			m.met.Add(1)
			go m.serve(conn)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return m
}

func (m *moody) serve(conn net.Conn) {
	defer conn.Close()
	if m.refuses.Add(-1) >= 0 {
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		if _, err := wire.ReadStartup(conn); err == nil {
			_, _ = conn.Write(wire.AppendError(nil, &wire.ServerError{Severity: "ERROR", Code: "XX000", Message: m.words}))
		}
		return
	}
	server, err := net.Dial("tcp", m.server)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, conn)
		_ = server.Close()
	}()
	_, _ = io.Copy(conn, server)
}

// TestInAMoment: a login waits for a server that says it will be there in a moment, and for no
// other.
func TestInAMoment(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]struct {
		refuses, met int32
		code         string
	}{
		"Couldn't connect to compute node": {2, 3, ""},
		"Failed to acquire permit to connect to the database. Too many database connection attempts are currently ongoing.": {1, 2, ""},
		"Control plane request failed: endpoint cannot be found":                                                            {1, 1, "XX000"},
		"password authentication failed for user 'u'":                                                                       {1, 1, pg.CodeInvalidAuthorization},
	} {
		t.Run(words, func(t *testing.T) {
			t.Parallel()
			var m *moody
			g := newRig(t, func(c *Config) {
				m = newMoody(t, c.Source.Dial.Address, words, want.refuses)
				c.Source.Dial.Address = m.Addr().String()
			})
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_, err := g.attempt(ctx)
			require.Equal(t, want.code, pg.Code(err), "%v", err)
			require.Equal(t, want.met, m.met.Load())
		})
	}
}

// TestPasswordExpiredAfterTheSwitch: what was known of the source's roles counts at the target,
// whose own role has no end.
func TestPasswordExpiredAfterTheSwitch(t *testing.T) {
	t.Parallel()
	var secret atomic.Pointer[auth.Secret]
	g := newRig(t, func(c *Config) { c.Auth = storeFunc(func() auth.Secret { return *secret.Load() }) })
	plain := auth.Plain(g.source.Password())
	secret.Store(&plain)
	conn := g.dial(t)
	g.toTarget(t)
	for code, s := range map[string]auth.Secret{
		pg.CodeInvalidPassword: plain.ValidUntil(time.Now().Add(-time.Minute)), pg.CodeInvalidAuthorization: plain.NoLogin(), "": plain,
	} {
		secret.Store(&s)
		_, err := g.attempt(within(t))
		require.Equal(t, code, pg.Code(err))
	}
	require.Equal(t, Target, g.side(t, conn), "sessions that are there go on")
}
