package proxy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestListenMoves(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	listener, other := g.dial(t), g.dial(t)
	run(t, listener, `LISTEN "Jobs"`)
	for range 3 {
		run(t, other, `NOTIFY "Jobs", 'from the other'`)
		n, err := listener.WaitForNotification(within(t))
		require.NoError(t, err)
		require.Equal(t, "Jobs", n.Channel)
		require.Equal(t, "from the other", n.Payload)
		require.Equal(t, other.PgConn().PID(), n.PID, "the pid that the client knows")
		run(t, listener, `NOTIFY "Jobs", 'own'`)
		n, err = listener.WaitForNotification(within(t))
		require.NoError(t, err)
		require.Equal(t, listener.PgConn().PID(), n.PID)
		g.moveTo(t, g.sides.Other().Name)
	}
}

func TestNotificationDuringTheCaptureIsDelivered(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	listener, other := g.dial(t), g.dial(t)
	run(t, listener, "LISTEN jobs")
	const n = 200
	done := make(chan error, 1)
	ctx := within(t)
	go func() {
		for range n {
			if _, err := other.Exec(ctx, "NOTIFY jobs"); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for i := 0; len(done) == 0; i++ {
		g.epoch++
		_, err := g.Stage(ctx, g.epoch)
		require.NoError(t, err)
	}
	require.NoError(t, <-done)
	for i := range n {
		_, err := listener.WaitForNotification(ctx)
		require.NoError(t, err, "notification %d", i)
	}
}

func TestAdvisoryLocksMove(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	holder, other := g.dial(t), g.dial(t)
	run(t, holder, "SELECT pg_advisory_lock(42), pg_advisory_lock_shared(-1, 7)")
	for range 3 {
		require.Equal(t, "false", value(t, other, "pg_try_advisory_lock(42)"))
		require.Equal(t, "false", value(t, other, "pg_try_advisory_lock(-1, 7)"))
		require.Equal(t, "true", value(t, other, "pg_try_advisory_lock(43)"))
		run(t, other, "SELECT pg_advisory_unlock_all()")
		g.moveTo(t, g.sides.Other().Name)
	}
	// Handed over between two attempts: given back by one before it is taken by the other.
	ctx := within(t)
	g.epoch++
	_, err := g.Pause(ctx, g.epoch, time.Second)
	require.NoError(t, err)
	_, err = g.Restage(ctx, g.epoch)
	require.NoError(t, err)
	require.NoError(t, g.Resume(ctx, g.epoch))
	run(t, holder, "SELECT pg_advisory_unlock(42)")
	run(t, other, "SELECT pg_advisory_lock(42)")
	g.moveTo(t, g.sides.Other().Name)
	require.Equal(t, "false", value(t, holder, "pg_try_advisory_lock(42)"))

	// Taken by another session on the other side: the attempt is given up.
	there := map[string]pg.DSN{Source: g.source, Target: g.target}[g.sides.Other().Name]
	run(t, pgtest.Conn(t, there), "SELECT pg_advisory_lock(42)")
	g.epoch++
	_, err = g.Pause(ctx, g.epoch, time.Second)
	require.NoError(t, err)
	_, err = g.Restage(ctx, g.epoch)
	require.ErrorContains(t, err, "take advisory lock")
	require.NoError(t, g.Resume(ctx, g.epoch))
	require.Equal(t, "true", value(t, other, "pg_try_advisory_lock(42)"), "it still has it")
}
