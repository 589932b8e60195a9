package proxy

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/session"
)

// Before and after a switch: no session is in a transaction while sessions are held for a moment, and
// nobody notices.
func TestNobodyIsInATransactionInAMomentOfQuiet(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.both(t, "CREATE TABLE public.t (id int)")
	var done atomic.Bool
	var acknowledged atomic.Int64
	var clients errgroup.Group
	for range 4 {
		conn := g.dial(t)
		clients.Go(func() error {
			for !done.Load() {
				if _, err := conn.Exec(context.Background(), "BEGIN; INSERT INTO public.t VALUES (1); SELECT pg_sleep(0.05); COMMIT"); err != nil {
					return err
				}
				acknowledged.Add(1)
			}
			return nil
		})
	}
	moment := func(side pg.DSN) {
		before := acknowledged.Load()
		eventually(t, "clients work", func() bool { return acknowledged.Load() > before+8 })
		conn := pgtest.Conn(t, side)
		err := g.Quiet(within(t), 10*time.Second, func(context.Context) error {
			require.Equal(t, "0", pgtest.Value(t, conn, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"))
			pgtest.Exec(t, conn, "SET lock_timeout = 1; BEGIN; LOCK TABLE public.t; COMMIT")
			return errors.New("what it says")
		})
		require.EqualError(t, err, "what it says")
		require.False(t, g.Status().Closed)
		before = acknowledged.Load()
		eventually(t, "clients go on", func() bool { return acknowledged.Load() > before+8 })
	}
	moment(g.source)
	g.toTarget(t)
	moment(g.target)
	done.Store(true)
	require.NoError(t, clients.Wait())
}

// A transaction that does not end keeps nobody for longer than the limit.
func TestAMomentOfQuietIsBounded(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	open, other := g.dial(t), g.dial(t)
	tx, err := open.Begin(within(t))
	require.NoError(t, err)
	called := false
	require.NoError(t, g.Quiet(within(t), 10*time.Millisecond, func(context.Context) error {
		called = true
		return nil
	}))
	require.True(t, called)
	require.Equal(t, "1", value(t, other, "SELECT 1"))
	require.NoError(t, tx.Commit(within(t)))
}

// A caller that asks for a moment of quiet while a move is in its pause has it at once. The gate
// stays closed after it, with every session held, and the remaining steps go through.
func TestAMomentOfQuietInAPauseDisturbsNoStep(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	conn := g.dial(t)
	ctx := within(t)
	_, err := g.Stage(ctx, 1)
	require.NoError(t, err)
	_, err = g.Pause(ctx, 1, pgtest.Timeout)
	require.NoError(t, err)
	answered := make(chan error, 1)
	var side string
	go func() {
		answered <- conn.QueryRow(ctx, "SELECT current_database()").Scan(&side)
	}()
	eventually(t, "it is held", func() bool { return g.waiting() == 1 })
	// stands fails unless the pause is as it was before.
	stands := func(when string) {
		t.Helper()
		require.True(t, g.Status().Closed, when)
		for _, r := range g.relays() {
			require.True(t, session.DoorOf(r).Held(), when)
		}
		require.Equal(t, 1, g.waiting(), when)
		require.Empty(t, answered, when)
	}
	quiet := func() {
		t.Helper()
		require.EqualError(t, g.Quiet(ctx, pgtest.Timeout, func(context.Context) error {
			stands("in it")
			return errors.New("what it says")
		}), "what it says")
		stands("behind it")
	}
	quiet()
	_, err = g.Pause(ctx, 1, pgtest.Timeout)
	require.NoError(t, err, "which it is already")
	_, err = g.Restage(ctx, 1)
	require.NoError(t, err)
	quiet()
	moved, err := g.Switch(ctx, 1, Target)
	require.NoError(t, err)
	require.Equal(t, 1, moved.Moved)
	require.Zero(t, moved.ClientErrors, "%v", moved.Failed)
	require.NoError(t, <-answered)
	require.Equal(t, g.target.Database(), side)
}
