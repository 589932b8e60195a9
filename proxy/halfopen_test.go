package proxy

import (
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/proxy/poll"
	"crossfade/proxy/wire"
)

// TestHalfOpenConnections opens ten thousand connections that never prove anything, as fast as it
// can, a third of them with a start-up packet, while a good client from the same address comes and
// goes.
func TestHalfOpenConnections(t *testing.T) {
	t.Parallel()
	const crowds = 10_000
	g := newRig(t, func(c *Config) { c.MaxLogins, c.MaxLoginsPerAddress, c.LoginTimeout = 1500, 1000, time.Hour })
	startup, err := wire.AppendStartup(nil, wire.Version30, []wire.Param{{Name: "user", Value: "nobody"}})
	require.NoError(t, err)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var flood sync.WaitGroup
	open := make(chan net.Conn, crowds)
	for range 4 {
		flood.Go(func() {
			for i := range crowds / 4 {
				conn, err := net.Dial("tcp", g.Addr().String())
				if err != nil {
					continue // the test's own descriptors, or the server's backlog
				}
				if i%3 == 0 {
					_, _ = conn.Write(startup)
				}
				open <- conn
				if len(open) > 2000 { // those that gave way need not be kept by the test
					_ = (<-open).Close()
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { defer close(done); flood.Wait() }()
	logins := 0
	for flooding := true; flooding || logins < 20; logins++ {
		select {
		case <-done:
			flooding = false
		default:
		}
		// Where the machine is so slow that a login takes longer than a thousand connections, a
		// second try is fair.
		var err error
		for range 3 {
			if _, err = g.attempt(within(t)); pg.Code(err) != pg.CodeTooManyConnections {
				break
			}
		}
		require.NoError(t, err, "login %d", logins)
		require.LessOrEqual(t, g.Status().Unauthenticated, 1000)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc+after.StackInuse) - int64(before.HeapAlloc+before.StackInuse)
	t.Logf("%d logins during the flood, %d gave way, memory grew by %d KiB", logins, g.Status().Crowded, grown>>10)
	require.Positive(t, g.Status().Crowded)
	close(open)
	for conn := range open {
		_ = conn.Close()
	}
	eventually(t, "none is left", func() bool { return g.Status().Unauthenticated == 0 })
}

// TestThoseThatGiveWayAreTold: the connection that is pushed out hears why.
func TestThoseThatGiveWayAreTold(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.MaxLogins = 1 })
	first, err := net.Dial("tcp", g.Addr().String())
	require.NoError(t, err)
	defer first.Close()
	eventually(t, "it is there", func() bool { return g.Status().Unauthenticated == 1 })
	conn := g.dial(t)
	require.NoError(t, first.SetReadDeadline(time.Now().Add(time.Minute)))
	require.Equal(t, pg.CodeTooManyConnections, lastError(t, first))
	require.Equal(t, Source, g.side(t, conn))
}

// lastError reads what a server says until it hangs up, and returns the SQLSTATE of its error.
func lastError(t *testing.T, conn net.Conn) string {
	t.Helper()
	r := wire.NewReader(conn, 0)
	code := ""
	for {
		f, err := r.Next()
		if err != nil {
			require.False(t, poll.TimedOut(err), "it does not hang up")
			return code
		}
		if f.Type == 'E' {
			e, err := wire.DecodeError(f.Body)
			require.NoError(t, err)
			code = e.Code
		}
	}
}

// TestLoginDeadline: who does not go on loses the connection, and is told so where it can be
// understood.
func TestLoginDeadline(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.LoginTimeout = 3 * time.Second })
	startup, err := wire.AppendStartup(nil, wire.Version30, []wire.Param{{Name: "user", Value: g.source.User()}})
	require.NoError(t, err)
	for name, c := range map[string]struct{ said, code string }{
		"nothing":         {"", ""},
		"half a packet":   {string(startup[:7]), ""},
		"no password":     {string(startup), pg.CodeQueryCanceled},
		"half a password": {string(startup) + "p\x00\x00", pg.CodeQueryCanceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", g.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			_, err = conn.Write([]byte(c.said))
			require.NoError(t, err)
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
			require.Equal(t, c.code, lastError(t, conn))
		})
	}
	t.Cleanup(func() { eventually(t, "none is left", func() bool { return g.Status().Unauthenticated == 0 }) })
}
