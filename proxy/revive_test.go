package proxy

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/netfault"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/session"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// onTarget is a rig whose target is active.
func onTarget(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	return newRig(t, append([]func(*Config){func(c *Config) { c.Auth, c.Active, c.Epoch = trustAll{}, Target, 1 }}, change...)...)
}

// known captures what can be captured now, as time would do.
func (g *rig) known(t testing.TB, pids ...uint32) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, "its state is known", func() bool {
			s := g.session(t, pid, true)
			return s.Verdict != session.VerdictUnknown && !s.Stale
		})
	}
}

// terminateServers ends the servers of the rig's target, as an administrator would, and
// waits until they are gone.
func (g *rig) terminateServers(t testing.TB) {
	t.Helper()
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN("postgres"))
	run(t, admin, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1", g.target.Database())
}

func one(t testing.TB, frames []wire.Frame) string {
	t.Helper()
	for _, f := range frames {
		if f.Type == 'D' {
			cols, err := wire.DecodeDataRow(nil, f.Body)
			require.NoError(t, err)
			return string(cols[0])
		}
	}
	t.Fatalf("no row in %s", shape(frames))
	return ""
}

func TestAnIdleSessionOutlivesItsServer(t *testing.T) {
	t.Parallel()
	g := onTarget(t)
	c := g.rawDial(t, wire.Param{Name: "application_name", Value: "shop"})
	require.Equal(t, "CZ", c.query("SET app.tenant = '7'"))
	c.send(wire.AppendSync(wire.AppendParse(nil, "mine", "SELECT current_setting('app.tenant')", nil)))
	require.Equal(t, "1Z", shape(c.until('Z')))
	c.send(wire.AppendSync(wire.AppendParse(nil, "", "SELECT current_setting('application_name')", nil)))
	require.Equal(t, "1Z", shape(c.until('Z')))
	for round := range 3 {
		// Nobody asks: the session is captured because it is idle.
		eventually(t, "its state is known", func() bool {
			s := g.session(t, c.pid, false)
			return s.Verdict == "green" && !s.Stale
		})
		before := g.ServerPIDs()
		g.terminateServers(t)
		eventually(t, "it is revived", func() bool { return g.Status().Revived == int64(round+1) })
		require.NotEqual(t, before, g.ServerPIDs())
		if round == 1 {
			continue // again, with nothing sent in between
		}
		for _, name := range []string{"mine", ""} {
			c.send(wire.AppendSync(wire.AppendExecute(wire.AppendBind(nil, "", name, nil, nil, nil), "", 0)))
			require.Equal(t, map[string]string{"mine": "7", "": "shop"}[name], one(t, c.until('Z')))
		}
	}
	require.Zero(t, g.Status().ClientErrors)
}

func TestASessionIsRevivedAfterItsInsert(t *testing.T) {
	t.Parallel()
	g := onTarget(t)
	run(t, pgtest.Conn(t, g.target), "CREATE TABLE public.serials (id serial)")
	c := g.rawDial(t)
	require.Equal(t, "CZ", c.query("INSERT INTO public.serials DEFAULT VALUES"))
	g.known(t, c.pid)
	g.terminateServers(t)
	eventually(t, "it is revived", func() bool { return g.Status().Revived == 1 })
	require.Equal(t, "TEZ", c.query("SELECT lastval()"), "what it costs")
	require.Equal(t, "CZ", c.query("INSERT INTO public.serials DEFAULT VALUES"))
}

func TestWhatIsNotRevived(t *testing.T) {
	t.Parallel()
	g := onTarget(t)
	since, within, listens, locks, temp := g.rawDial(t), g.rawDial(t), g.rawDial(t), g.rawDial(t), g.rawDial(t)
	require.Equal(t, "TDCZ", since.query("SELECT 1"))
	require.Equal(t, "CZ", listens.query("LISTEN jobs"))
	require.Equal(t, "TDCZ", locks.query("SELECT pg_advisory_lock(1)"))
	require.Equal(t, "CZ", temp.query("CREATE TEMP TABLE scratch (id int)"))
	g.known(t, since.pid, within.pid, listens.pid, locks.pid, temp.pid)
	require.Equal(t, "CZ", since.query("SET app.x = 'after its capture'"))
	require.Equal(t, "CZ", within.query("BEGIN"))
	g.terminateServers(t)
	for name, c := range map[string]*raw{"since": since, "within": within, "listens": listens, "locks": locks, "temp": temp} {
		e := c.gone()
		require.NotNil(t, e, name)
		require.Equal(t, pg.CodeAdminShutdown, e.Code, name)
	}
	require.Zero(t, g.Status().Revived)
}

func TestAtTheSourceNobodyIsRevived(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c := g.rawDial(t)
	g.known(t, c.pid)
	run(t, pgxAdmin(t, g), "SELECT pg_terminate_backend(p) FROM unnest($1::int[]) p", g.ServerPIDs())
	require.Equal(t, pg.CodeAdminShutdown, c.gone().Code)
}

// TestTheNextRequestWaitsForTheRevival cuts the sockets without a word and has the
// server refuse for a while, as a compute does that wakes.
func TestTheNextRequestWaitsForTheRevival(t *testing.T) {
	t.Parallel()
	g, relay := throughRelay(t)
	run(t, pgtest.Conn(t, g.target), "CREATE TABLE public.t (id int)")
	asks, waits, quits, leaves := g.rawDial(t), g.rawDial(t), g.rawDial(t), g.rawDial(t)
	g.known(t, asks.pid, waits.pid, quits.pid, leaves.pid)
	eventually(t, "sessions of the proxy's own have ended", func() bool { return relay.Links() == 4 })
	relay.Refuse(true)
	require.Equal(t, 4, relay.Cut(netfault.Reset))
	for _, c := range []*raw{asks, waits, quits, leaves} {
		eventually(t, "it is being revived", func() bool { return g.session(t, c.pid, true).State == session.StateReviving })
	}
	asks.send(wiretest.AppendQuery(nil, "INSERT INTO public.t VALUES (1)"))
	quits.send(wiretest.AppendQuery(nil, "INSERT INTO public.t VALUES (2)"))
	eventually(t, "they are held", func() bool { return g.waiting() == 2 })
	g.sessions.Cancel(t.Context(), quits.pid, quits.key)
	require.Equal(t, "EZ", shape(quits.until('Z')), "a held request is cancelled where it is")
	leaves.send(wire.AppendTerminate(nil))
	require.Nil(t, leaves.gone())
	eventually(t, "it is gone", func() bool { return g.Status().Sessions == 3 })
	require.Zero(t, g.Status().Revived)

	relay.Refuse(false)
	require.Equal(t, "CZ", shape(asks.until('Z')))
	require.Equal(t, "TDCZ", waits.query("SELECT 1"))
	require.Equal(t, "TDCZ", quits.query("SELECT 1"))
	require.Equal(t, "1", value(t, pgtest.Conn(t, g.target), "SELECT string_agg(id::text, ',') FROM public.t"), "once")
	require.EqualValues(t, 3, g.Status().Revived)
}

func TestARevivalIsBounded(t *testing.T) {
	t.Parallel()
	g, relay := throughRelay(t, func(c *Config) { c.ReviveTimeout = 500 * time.Millisecond })
	told, cut := g.rawDial(t), g.rawDial(t)
	g.known(t, told.pid, cut.pid)
	relay.Refuse(true)
	pids := g.ServerPIDs()
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN("postgres"))
	run(t, admin, "SELECT pg_terminate_backend($1)", pids[0])
	require.Equal(t, pg.CodeAdminShutdown, told.gone().Code, "as the server has said")
	relay.Cut(netfault.Reset)
	require.Equal(t, pg.CodeConnectionFailure, cut.gone().Code)
	require.Zero(t, g.Status().Revived)
}

// throughRelay is a rig on its target, which is reached through a relay with faults.
func throughRelay(t testing.TB, change ...func(*Config)) (*rig, *netfault.Relay) {
	t.Helper()
	var relay *netfault.Relay
	g := onTarget(t, append(change, func(c *Config) {
		r, err := netfault.Listen(netfault.Config{Target: c.Target.Dial.Address})
		require.NoError(t, err)
		relay = r
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-ended })
		c.Target.Dial.Address = r.Addr().String()
	})...)
	return g, relay
}

// TestSessionsAreRevivedAfterARestart restarts a cluster of its own under many sessions.
func TestSessionsAreRevivedAfterARestart(t *testing.T) {
	t.Parallel()
	own := pgtest.Own(t, pgtest.Target)
	g := &rig{source: pgtestDatabase(t, string(pgtest.Source)), target: pgtest.Database(t, own)}
	g.start(t, func(c *Config) { c.Active, c.Epoch, c.MaxDials = Target, 1, 3 })
	var conns []*pgx.Conn
	for range 12 {
		conn := g.dial(t)
		run(t, conn, "SET TimeZone = 'Asia/Tokyo'")
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		g.known(t, conn.PgConn().PID())
	}
	require.NoError(t, own.Restart(within(t), pgcluster.Fast))
	for _, conn := range conns {
		require.Equal(t, "Asia/Tokyo", value(t, conn, "SELECT current_setting('TimeZone')"))
	}
	require.EqualValues(t, len(conns), g.Status().Revived)
}
