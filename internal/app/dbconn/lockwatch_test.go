package dbconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/netfault"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// A server far away has not answered the last query when the wait that it is about is over. The
// session that asks is also the guard's, and there may be no connection left for another one.
func TestALockWatchLeavesItsSessionAlone(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	relay, err := netfault.Listen(netfault.Config{Target: net.JoinHostPort(dsn.Host(), strconv.Itoa(dsn.Port()))})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	far, err := pg.ParseDSN(fmt.Sprintf("host=127.0.0.1 port=%d user=%s password='%s' dbname=%s sslmode=disable", relay.Addr().Port, dsn.User(), dsn.Password(), dsn.Database()))
	require.NoError(t, err)
	l := New(far)
	t.Cleanup(l.Close)
	var session *pgx.Conn
	ask := func(_ context.Context, conn *pgx.Conn) error { session = conn; return nil }
	require.NoError(t, l.Do(ctx, ask))
	first := session
	relay.Shape(netfault.ToClient, netfault.Shape{Delay: 4 * LockPoll})
	before := relay.Passed(netfault.ToServer)
	require.NoError(t, NameHolder(ctx, l, 1, func() error {
		require.Eventually(t, func() bool { return relay.Passed(netfault.ToServer) > before }, pgtest.Timeout, time.Millisecond, "it asks")
		return nil
	}))
	require.NoError(t, l.Do(ctx, ask))
	require.Same(t, first, session)
}

// pg_dump reports a lock that it did not get only once it has ended, on a busy machine many queries
// after the server refused it.
func TestAWaitThatEndedBeforeTheErrorIsStillNamed(t *testing.T) {
	t.Parallel()
	o := &LockWatch{Side: "source", Stop: func() {}, done: make(chan struct{})}
	close(o.done)
	o.note(Wait{Lock: "table public.z", Holders: []Process{{PID: 5}}}, false)
	for range asksWithout {
		require.NotNil(t, LastSeen(o))
		o.note(Wait{}, false)
	}
	require.Nil(t, LastSeen(o), "the lock was granted, as far as the queries tell")
	for _, other := range []string{"public.other", "public.zz", "other_public.z"} {
		require.Nil(t, o.SeenOf(errors.New("pg_dump: detail: Query was: LOCK TABLE "+other+" IN ACCESS SHARE MODE")), other)
	}
	for _, tables := range []string{"public.z", "public.a, public.z", "public.z, public.zz"} {
		seen := o.SeenOf(errors.New("pg_dump: detail: Query was: LOCK TABLE " + tables + " IN ACCESS SHARE MODE"))
		require.NotNil(t, seen, tables)
		require.Equal(t, int32(5), seen.Last.Holders[0].PID)
		require.Equal(t, "source", seen.Side)
	}
}
