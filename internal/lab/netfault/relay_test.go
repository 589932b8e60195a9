package netfault_test

import (
	"context"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/netfault"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// echoServer answers each byte with itself and hands out its connections.
func echoServer(t *testing.T) (addr string, conns <-chan *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ch := make(chan *net.TCPConn, 8)
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			ch <- c.(*net.TCPConn)
			wg.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.(*net.TCPConn).CloseWrite()
			})
		}
	})
	return ln.Addr().String(), ch
}

func start(t *testing.T, target string) *netfault.Relay {
	t.Helper()
	r, err := netfault.Listen(netfault.Config{Target: target})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.Zero(t, r.Links())
	})
	return r
}

func dial(t *testing.T, r *netfault.Relay) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", r.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

func roundTrip(t *testing.T, c net.Conn, msg string) time.Duration {
	t.Helper()
	begin := time.Now()
	_, err := c.Write([]byte(msg))
	require.NoError(t, err)
	buf := make([]byte, len(msg))
	_, err = io.ReadFull(c, buf)
	require.NoError(t, err)
	require.Equal(t, msg, string(buf))
	return time.Since(begin)
}

func TestForwardsAndEndsOrderly(t *testing.T) {
	t.Parallel()
	addr, _ := echoServer(t)
	c := dial(t, start(t, addr))
	roundTrip(t, c, "hello")
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	rest, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Empty(t, rest)
}

func TestDelayIsOneWayAndDoesNotLimitThroughput(t *testing.T) {
	t.Parallel()
	addr, _ := echoServer(t)
	r := start(t, addr)
	c := dial(t, r)
	roundTrip(t, c, "warm")
	const delay = 60 * time.Millisecond
	r.Shape(netfault.ToServer, netfault.Shape{Delay: delay})
	require.GreaterOrEqual(t, roundTrip(t, c, "one way"), delay)
	r.Shape(netfault.ToClient, netfault.Shape{Delay: delay})
	require.GreaterOrEqual(t, roundTrip(t, c, "both ways"), 2*delay)

	begin := time.Now()
	for range 50 {
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
	}
	_, err := io.ReadFull(c, make([]byte, 50))
	require.NoError(t, err)
	require.Less(t, time.Since(begin), 50*delay, "delays of bytes under way add up")

	r.Heal()
	var fastest time.Duration = patience
	for range 20 {
		fastest = min(fastest, roundTrip(t, c, "healed"))
	}
	require.Less(t, fastest, delay)
}

func TestBandwidth(t *testing.T) {
	t.Parallel()
	addr, _ := echoServer(t)
	r := start(t, addr)
	c := dial(t, r)
	r.Shape(netfault.ToServer, netfault.Shape{Bandwidth: 100_000})
	begin := time.Now()
	go func() { _, _ = c.Write(make([]byte, 20_000)) }()
	_, err := io.ReadFull(c, make([]byte, 20_000))
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(begin), 150*time.Millisecond)
}

func TestSharedBandwidthIsThatOfAllLinks(t *testing.T) {
	t.Parallel()
	addr, _ := echoServer(t)
	r := start(t, addr)
	conns := []net.Conn{dial(t, r), dial(t, r), dial(t, r), dial(t, r)}
	r.Shape(netfault.ToServer, netfault.Shape{Shared: 400_000})
	begin := time.Now()
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() { _, _ = c.Write(make([]byte, 50_000)) })
		wg.Go(func() { _, _ = io.ReadFull(c, make([]byte, 50_000)) })
	}
	wg.Wait()
	require.GreaterOrEqual(t, time.Since(begin), 450*time.Millisecond)
	require.EqualValues(t, 200_000, r.Passed(netfault.ToServer))
	require.EqualValues(t, 200_000, r.Passed(netfault.ToClient))
}

func TestLossHoldsUpAndLosesNothing(t *testing.T) {
	t.Parallel()
	addr, _ := echoServer(t)
	r := start(t, addr)
	c := dial(t, r)
	const delay = 30 * time.Millisecond
	r.Shape(netfault.ToServer, netfault.Shape{Delay: delay, Loss: 1})
	require.GreaterOrEqual(t, roundTrip(t, c, "every segment is lost once"), 3*delay)
	r.Shape(netfault.ToServer, netfault.Shape{Delay: delay})
	require.GreaterOrEqual(t, roundTrip(t, c, "and what is behind it keeps its place"), delay)
}

func TestStallHoldsAndThenDeliversEverything(t *testing.T) {
	t.Parallel()
	addr, _ := echoServer(t)
	r := start(t, addr)
	c := dial(t, r)
	roundTrip(t, c, "before")
	r.Stall(true)
	_, err := c.Write([]byte("held"))
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, errTimeout(t, err))
	r.Stall(false)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	buf := make([]byte, 4)
	_, err = io.ReadFull(c, buf)
	require.NoError(t, err)
	require.Equal(t, "held", string(buf))
}

// errTimeout returns err when it is a time-out, so that ErrorIs can say so.
func errTimeout(t *testing.T, err error) error {
	t.Helper()
	var ne net.Error
	require.ErrorAs(t, err, &ne)
	require.True(t, ne.Timeout(), "want a time-out, have %v", err)
	return err
}

func TestCutModes(t *testing.T) {
	t.Parallel()
	type end int
	const (
		open end = iota
		rst
		fin
	)
	for name, tc := range map[string]struct {
		mode           netfault.Mode
		client, server end
	}{
		"reset":        {netfault.Reset, rst, rst},
		"finish":       {netfault.Finish, fin, fin},
		"reset client": {netfault.ResetClient, rst, open},
		"reset server": {netfault.ResetServer, open, rst},
		"silence":      {netfault.Silence, open, open},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { _ = ln.Close() })
			r := start(t, ln.Addr().String())
			c := dial(t, r)
			s, err := ln.Accept()
			require.NoError(t, err)
			t.Cleanup(func() { _ = s.Close() })
			_, err = c.Write([]byte("x"))
			require.NoError(t, err)
			_, err = io.ReadFull(s, make([]byte, 1))
			require.NoError(t, err)
			require.Equal(t, 1, r.Cut(tc.mode))
			for who, want := range map[string]end{"client": tc.client, "server": tc.server} {
				conn := map[string]net.Conn{"client": c, "server": s}[who]
				wait := patience
				if want == open {
					wait = 50 * time.Millisecond
					_, err := conn.Write([]byte("into the void"))
					require.NoError(t, err)
				}
				require.NoError(t, conn.SetReadDeadline(time.Now().Add(wait)))
				_, err := conn.Read(make([]byte, 1))
				switch want {
				case rst:
					require.ErrorIs(t, err, syscall.ECONNRESET, who)
				case fin:
					require.ErrorIs(t, err, io.EOF, who)
				case open:
					require.ErrorIs(t, err, errTimeout(t, err), who)
				}
			}
		})
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	addr, _ := echoServer(t)
	r := start(t, addr)
	r.Refuse(true)
	require.ErrorIs(t, firstRead(r), syscall.ECONNRESET)
	r.Refuse(false)
	roundTrip(t, dial(t, r), "again")
}

func TestTargetGone(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.NoError(t, ln.Close())
	require.ErrorIs(t, firstRead(start(t, addr)), syscall.ECONNRESET)
}

// firstRead connects and reads. A RST may be faster than the return of connect.
func firstRead(r *netfault.Relay) error {
	c, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_, err = c.Read(make([]byte, 1))
	return err
}
