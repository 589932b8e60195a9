package proxy

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/wire/wiretest"
)

// TestAParkedHolderGoesOn: a chain of sessions, each of which waits for a lock of the
// one before, drains, because each parked holder may give its lock back.
func TestAParkedHolderGoesOn(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	holder, waiter, other := g.rawDial(t), g.rawDial(t), g.rawDial(t)
	require.Equal(t, "TDCZ", holder.query("SELECT pg_advisory_lock(1)"))
	waiter.send(wiretest.AppendQuery(nil, "SELECT pg_advisory_lock(1)"))
	r := g.relays()[1]
	eventually(t, "it waits", func() bool { return !r.View.Resting() })
	paused := make(chan error, 1)
	ctx := within(t)
	go func() {
		_, err := g.Pause(ctx, 1, time.Minute)
		paused <- err
	}()
	g.awaitHeld(t)
	other.send(wiretest.AppendQuery(nil, "SELECT 3"))
	require.Equal(t, "CZ", holder.query("SET app.x = '1'"), "it goes on, whatever it asks for")
	require.Empty(t, paused)
	require.Equal(t, "TDCZ", holder.query("SELECT pg_advisory_unlock(1)"))
	require.Equal(t, "TDCZ", shape(waiter.until('Z')), "it has the lock")
	require.NoError(t, <-paused)
	require.Equal(t, 3, g.Status().Parked, "the holder too is held again")
	holder.send(wiretest.AppendQuery(nil, "SELECT 4"))
	eventually(t, "they are held", func() bool { return g.waiting() == 2 })
	_, err := g.Restage(ctx, 1)
	require.NoError(t, err)
	_, err = g.Switch(ctx, 1, Target)
	require.NoError(t, err)
	require.Equal(t, "3", one(t, other.until('Z')))
	require.Equal(t, "4", one(t, holder.until('Z')))
	require.Equal(t, "t", one(t, waiter.answer("SELECT pg_advisory_unlock(1)")), "the lock has moved")
}

func TestAHolderThatKeepsItsLockIsNamed(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	holder, waiter, blocked := g.rawDial(t), g.rawDial(t), g.rawDial(t)
	require.Equal(t, "TDCZ", holder.query("SELECT pg_advisory_lock(1)"))
	waiter.send(wiretest.AppendQuery(nil, "SELECT pg_advisory_lock(1)"))
	other := pgtest.Conn(t, g.source)
	run(t, other, "SELECT pg_advisory_lock(2)")
	blocked.send(wiretest.AppendQuery(nil, "SELECT pg_advisory_lock(2)"))
	list := g.relays()
	eventually(t, "they wait", func() bool { return !list[1].View.Resting() && !list[2].View.Resting() })
	_, err := g.Pause(within(t), 1, 3*time.Second)
	var late *DrainTimeoutError
	require.ErrorAs(t, err, &late)
	require.Len(t, late.Sessions, 2)
	require.Equal(t, waiter.pid, late.Sessions[0].PID)
	require.Contains(t, late.Sessions[0].Detail, fmt.Sprintf("lock that session %d of ", list[0].Id))
	require.Contains(t, late.Sessions[1].Detail, fmt.Sprintf("process %d, which is no session", other.PgConn().PID()))
	require.False(t, g.Status().Closed)
	require.Equal(t, "TDCZ", holder.query("SELECT pg_advisory_unlock(1)"))
	require.Equal(t, "TDCZ", shape(waiter.until('Z')))
	run(t, other, "SELECT pg_advisory_unlock(2)")
	require.Equal(t, "TDCZ", shape(blocked.until('Z')))
}
