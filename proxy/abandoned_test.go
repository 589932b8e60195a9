package proxy

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/session"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// blocked is a rig with a table that a session outside the proxy has locked.
func blocked(t *testing.T, change ...func(*Config)) (*rig, *pgx.Conn) {
	t.Helper()
	g := newRig(t, append([]func(*Config){func(c *Config) { c.Auth = trustAll{} }}, change...)...)
	g.both(t, "CREATE TABLE public.t (id int)", "CREATE TABLE public.u (id int)")
	locker := pgtest.Conn(t, g.source)
	run(t, locker, "BEGIN")
	run(t, locker, "LOCK TABLE public.t IN EXCLUSIVE MODE")
	return g, locker
}

// atWork is how many of the application's sessions at the source run a statement.
func atWork(t *testing.T, g *rig, look *pgx.Conn) string {
	t.Helper()
	return value(t, look, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()")
}

// busySessions waits until n sessions of the rig are at work.
func (g *rig) busySessions(t *testing.T, n int) {
	t.Helper()
	eventually(t, "they are at work", func() bool {
		busy := 0
		for _, r := range g.relays() {
			if !r.View.Resting() {
				busy++
			}
		}
		return busy == n
	})
}

// TestTheStatementOfAClientThatDiedIsCancelled: it would hold its locks until it has them
// all, and keep the fence open, with nobody to name.
func TestTheStatementOfAClientThatDiedIsCancelled(t *testing.T) {
	t.Parallel()
	for name, die := range map[string]func(c *raw){
		"closed":         func(c *raw) { _ = c.conn.Close() },
		"with a reset":   func(c *raw) { _ = c.conn.(*net.TCPConn).SetLinger(0); _ = c.conn.Close() },
		"in a pipeline":  func(c *raw) { c.send(wiretest.AppendQuery(nil, "SELECT pg_sleep(3600)")); _ = c.conn.Close() },
		"in a statement": func(c *raw) { c.send([]byte{'Q', 0, 0}); _ = c.conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, locker := blocked(t)
			c := g.rawDial(t)
			require.Equal(t, "CZ", c.query("BEGIN"))
			require.Equal(t, "CZ", c.query("INSERT INTO public.u VALUES (1)"))
			c.send(wiretest.AppendQuery(nil, "INSERT INTO public.t VALUES (1)"))
			g.busySessions(t, 1)
			die(c)
			eventually(t, "it is gone", func() bool { return g.Status().Sessions == 0 })
			eventually(t, "nothing is at work", func() bool { return atWork(t, g, locker) == "0" })
			require.EqualValues(t, 1, g.Status().Abandoned)
			// The session that closes a fence gets the lock of the table that the client wrote.
			other := pgtest.Conn(t, g.source)
			run(t, other, "SET lock_timeout = '10s'")
			run(t, other, "BEGIN")
			run(t, other, "LOCK TABLE public.u IN SHARE ROW EXCLUSIVE MODE")
		})
	}
}

func TestAHalfClosedClientGetsItsAnswer(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.both(t, "CREATE TABLE public.t (id int)")
	c := g.rawDial(t)
	c.send(wiretest.AppendQuery(wiretest.AppendQuery(nil, "INSERT INTO public.t SELECT 1 FROM pg_sleep(0.7)"), "SELECT 'answer'"))
	require.NoError(t, c.conn.(*net.TCPConn).CloseWrite())
	var got string
	for len(got) < 6 {
		if f := c.next(); f.Type != 'S' { // which says nothing new
			got += string(f.Type)
		}
	}
	require.Equal(t, "CZTDCZ", got)
	require.Nil(t, c.gone())
	require.Zero(t, g.Status().Abandoned)
	require.Equal(t, "1", value(t, pgtest.Conn(t, g.source), "SELECT count(*) FROM public.t"))
}

// TestAHalfClosedClientThatReadsSlowlyGetsItsAnswer: its server has said all there is, and is
// idle, long before the client has taken it.
func TestAHalfClosedClientThatReadsSlowlyGetsItsAnswer(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c := g.rawDial(t)
	r := g.relays()[0]
	require.NoError(t, c.conn.(*net.TCPConn).SetReadBuffer(4096))
	require.NoError(t, session.DoorOf(r).Client().(*net.TCPConn).SetWriteBuffer(4096))
	const size = 200_000
	c.send(wiretest.AppendQuery(nil, "SELECT repeat('x', "+strconv.Itoa(size)+")"))
	require.NoError(t, c.conn.(*net.TCPConn).CloseWrite())
	look := pgtest.Conn(t, g.source)
	eventually(t, "the server has answered", func() bool {
		return session.DoorOf(r).Delivering() && value(t, look, "SELECT state FROM pg_stat_activity WHERE pid = "+strconv.Itoa(int(r.ServerPID()))) == "idle"
	})
	select {
	case <-session.DoorOf(r).Context().Done():
		require.Fail(t, "the session has ended", context.Cause(session.DoorOf(r).Context()))
	case <-time.After(2 * time.Second): // some looks at the server
	}
	require.NoError(t, c.conn.(*net.TCPConn).SetReadBuffer(size))
	require.NoError(t, session.DoorOf(r).Client().(*net.TCPConn).SetWriteBuffer(size))
	var got int
	for _, f := range c.until('Z') {
		if f.Type == 'D' {
			got = len(f.Body)
		}
	}
	require.Greater(t, got, size)
	require.Nil(t, c.gone())
	require.Zero(t, g.Status().Abandoned)
}

// TestAHalfClosedClientIsHeldAndMoved: its request waits at the gate as any other does, and
// is answered by the other side.
func TestAHalfClosedClientIsHeldAndMoved(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	stays, leaves := g.rawDial(t), g.rawDial(t)
	ctx := within(t)
	_, err := g.Stage(ctx, 1)
	require.NoError(t, err)
	_, err = g.Pause(ctx, 1, 10*time.Second)
	require.NoError(t, err)
	for _, c := range []*raw{stays, leaves} {
		c.send(wiretest.AppendQuery(nil, "SELECT current_database()"))
	}
	require.NoError(t, stays.conn.(*net.TCPConn).CloseWrite())
	eventually(t, "they are held", func() bool { return g.waiting() == 2 })
	require.NoError(t, leaves.conn.Close())
	eventually(t, "the one that is gone is noticed", func() bool { return g.Status().Sessions == 1 })
	_, err = g.Restage(ctx, 1)
	require.NoError(t, err)
	report, err := g.Switch(ctx, 1, Target)
	require.NoError(t, err)
	require.Zero(t, report.ClientErrors, "who leaves is no client error")
	require.Equal(t, g.target.Database(), one(t, stays.until('Z')))
	require.Nil(t, stays.gone())
}

// TestWhatAClientAskedForBeforeItsGoodByeIsDone: it has not died; but a pause waits for
// nothing that nobody waits for.
func TestWhatAClientAskedForBeforeItsGoodByeIsDone(t *testing.T) {
	t.Parallel()
	g, locker := blocked(t)
	done, cancelled := g.rawDial(t), g.rawDial(t)
	done.send(wire.AppendTerminate(wiretest.AppendQuery(nil, "INSERT INTO public.t VALUES (1)")))
	require.NoError(t, done.conn.Close())
	r := g.relays()[0]
	eventually(t, "nobody is there", session.DoorOf(r).Unread)
	run(t, locker, "COMMIT")
	eventually(t, "it is done", func() bool { return g.Status().Sessions == 1 })
	require.Equal(t, "1", value(t, locker, "SELECT count(*) FROM public.t"))
	require.Zero(t, g.Status().Abandoned)

	run(t, locker, "BEGIN")
	run(t, locker, "LOCK TABLE public.t IN EXCLUSIVE MODE")
	cancelled.send(wire.AppendTerminate(wiretest.AppendQuery(nil, "INSERT INTO public.t VALUES (2)")))
	g.busySessions(t, 1)
	require.NoError(t, cancelled.conn.Close())
	_, err := g.Pause(within(t), 1, 20*time.Second)
	require.NoError(t, err)
	require.EqualValues(t, 1, g.Status().Abandoned)
	require.NoError(t, g.Resume(within(t), 1))
}

// TestAnAbandonedStatementThatDoesNotEndIsNamed: a server that heeds no cancel request keeps the
// session in the registry, so that the drain can say what it waits for.
func TestAnAbandonedStatementThatDoesNotEndIsNamed(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.both(t, `CREATE FUNCTION public.stubborn() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$`)
	c := g.rawDial(t)
	c.send(wiretest.AppendQuery(nil, "SELECT public.stubborn()"))
	g.busySessions(t, 1)
	admin := pgxAdmin(t, g)
	eventually(t, "it sleeps where it heeds nothing", func() bool {
		return value(t, admin, fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE pid = %d AND wait_event = 'PgSleep'", g.ServerPIDs()[0])) == "1"
	})
	require.NoError(t, c.conn.Close())
	eventually(t, "it is cancelled", func() bool { return g.Status().Abandoned == 1 })
	require.Equal(t, session.StateLeft, g.Sessions(within(t), false)[0].State)
	_, err := g.Pause(within(t), 1, 300*time.Millisecond)
	var late *DrainTimeoutError
	require.ErrorAs(t, err, &late)
	require.Len(t, late.Sessions, 1)
	require.Contains(t, late.Sessions[0].Detail, "its client is gone")
	run(t, admin, "SELECT pg_terminate_backend($1)", g.ServerPIDs()[0])
	eventually(t, "it is gone", func() bool { return g.Status().Sessions == 0 })
}

// TestAShutdownLeavesNoStatementAtWork: what a session ran that the bound of the shutdown
// has ended is cancelled, too.
func TestAShutdownLeavesNoStatementAtWork(t *testing.T) {
	t.Parallel()
	g, locker := blocked(t, func(c *Config) { c.ShutdownTimeout = 200 * time.Millisecond })
	c := g.rawDial(t)
	c.send(wiretest.AppendQuery(nil, "INSERT INTO public.t VALUES (1)"))
	g.busySessions(t, 1)
	g.stop()
	require.Equal(t, pg.CodeAdminShutdown, c.gone().Code)
	eventually(t, "nothing is at work", func() bool { return atWork(t, g, locker) == "0" })
}
