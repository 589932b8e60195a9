package proxy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/session"
	"crossfade/proxy/wire/wiretest"
)

// restaged takes an attempt to the moment at which the target would decide.
func (g *rig) restaged(t testing.TB) {
	t.Helper()
	g.epoch++
	ctx := within(t)
	_, err := g.Stage(ctx, g.epoch)
	require.NoError(t, err)
	_, err = g.Pause(ctx, g.epoch, 10*time.Second)
	require.NoError(t, err)
	_, err = g.Restage(ctx, g.epoch)
	require.NoError(t, err)
}

// TestParkedSessionsOutliveTheSource: it goes down while the target decides, and nobody
// needs it any more.
func TestParkedSessionsOutliveTheSource(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]pgcluster.Mode{"that ends": pgcluster.Fast, "that crashes": pgcluster.Immediate} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := pgtest.Own(t, pgtest.Source)
			g := &rig{source: pgtest.Database(t, own), target: pgtestDatabase(t, string(pgtest.Target))}
			g.start(t, func(c *Config) { c.Auth = trustAll{} })
			held, idle, listens, locks := g.rawDial(t), g.rawDial(t), g.rawDial(t), g.rawDial(t)
			require.Equal(t, "CZ", idle.query("SET app.tenant = '7'"))
			require.Equal(t, "CZ", listens.query("LISTEN jobs"))
			require.Equal(t, "TDCZ", locks.query("SELECT pg_advisory_lock(1)"))
			g.restaged(t)
			held.send(wiretest.AppendQuery(nil, "SELECT current_database()"))
			eventually(t, "it is held", func() bool { return g.waiting() == 1 })
			require.NoError(t, own.Stop(within(t), mode))
			require.Equal(t, 4, g.Status().Parked, "they stand as they stood")
			report, err := g.Switch(within(t), g.epoch, Target)
			require.NoError(t, err)
			require.Zero(t, report.ClientErrors, "%v", report.Failed)
			require.Equal(t, 4, report.Moved)
			require.Equal(t, g.target.Database(), one(t, held.until('Z')))
			require.Equal(t, "7", one(t, idle.answer("SELECT current_setting('app.tenant')")))
			run(t, pgtest.Conn(t, g.target), "NOTIFY jobs")
			require.Equal(t, byte('A'), listens.until('A')[0].Type)
			require.Equal(t, "t", one(t, locks.answer("SELECT pg_advisory_unlock(1)")))
			require.NoError(t, own.StartServer(within(t)))
		})
	}
}

// TestASessionLimitOfTheSourceEndsNoParkedSession: an administrator, or a limit on idle
// sessions, ends its server in the pause.
func TestASessionLimitOfTheSourceEndsNoParkedSession(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c := g.rawDial(t)
	require.Equal(t, "CZ", c.query("SET idle_session_timeout = '8s'"))
	g.restaged(t)
	look := pgtest.Conn(t, g.source)
	pid := g.ServerPIDs()[0]
	eventually(t, "its server has ended", func() bool {
		return value(t, look, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid) == "0"
	})
	report, err := g.Switch(within(t), g.epoch, Target)
	require.NoError(t, err)
	require.Zero(t, report.ClientErrors, "%v", report.Failed)
	require.Equal(t, g.target.Database(), one(t, c.answer("SELECT current_database()")))
}

// TestAKeptSessionGoesOnWhereTheAttemptIsGivenUp: on another server of the same side, if its
// state can be made whole there; what cannot is told as the server has said it, and counted.
func TestAKeptSessionGoesOnWhereTheAttemptIsGivenUp(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	whole, locks := g.rawDial(t), g.rawDial(t)
	require.Equal(t, "CZ", whole.query("SET app.tenant = '7'"))
	require.Equal(t, "TDCZ", locks.query("SELECT pg_advisory_lock(1)"))
	g.restaged(t)
	run(t, pgxAdmin(t, g), "SELECT pg_terminate_backend(p) FROM unnest($1::int[]) p", g.ServerPIDs())
	list := g.relays()
	eventually(t, "their servers are gone", func() bool { return session.DoorOf(list[0]).Lacks() && session.DoorOf(list[1]).Lacks() })
	require.Equal(t, 2, g.Status().Parked)
	require.NoError(t, g.Resume(within(t), g.epoch))
	require.Equal(t, "7", one(t, whole.answer("SELECT current_setting('app.tenant')")))
	require.Equal(t, g.source.Database(), one(t, whole.answer("SELECT current_database()")))
	require.Equal(t, pg.CodeAdminShutdown, locks.gone().Code)
	require.EqualValues(t, 1, g.Status().ClientErrors)
	g.restaged(t) // the one that is left moves as ever
	_, err := g.Switch(within(t), g.epoch, Target)
	require.NoError(t, err)
	require.Equal(t, g.target.Database(), one(t, whole.answer("SELECT current_database()")))
}

// TestEveryClientEndedInAnAttemptIsCounted: by a server that went away before the last
// capture, by the hold limit; not who leaves.
func TestEveryClientEndedInAnAttemptIsCounted(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth, c.HoldLimit = trustAll{}, 300*time.Millisecond })
	struck, held, leaves, stays := g.rawDial(t), g.rawDial(t), g.rawDial(t), g.rawDial(t)
	ctx := within(t)
	_, err := g.Stage(ctx, 1)
	require.NoError(t, err)
	_, err = g.Pause(ctx, 1, 10*time.Second)
	require.NoError(t, err)
	run(t, pgxAdmin(t, g), "SELECT pg_terminate_backend($1)", g.ServerPIDs()[0])
	require.Equal(t, pg.CodeAdminShutdown, struck.gone().Code)
	held.send(wiretest.AppendQuery(nil, "SELECT 1"))
	require.Equal(t, pg.CodeCannotConnectNow, held.gone().Code)
	require.NoError(t, leaves.conn.Close())
	eventually(t, "one is left", func() bool { return g.Status().Sessions == 1 })
	_, err = g.Restage(ctx, 1)
	require.NoError(t, err)
	report, err := g.Switch(ctx, 1, Target)
	require.NoError(t, err)
	require.Equal(t, 1, report.Moved)
	require.Equal(t, 2, report.ClientErrors, "%v", report.Failed)
	require.Contains(t, report.Failed[0].Detail, "57P01")
	require.Contains(t, report.Failed[1].Detail, "hold limit")
	total, latest := g.Ended()
	require.Equal(t, 2, total)
	require.Len(t, latest, 2)
	require.Equal(t, g.target.Database(), one(t, stays.answer("SELECT current_database()")))

	// Outside of an attempt a session that ends is nothing of ours.
	run(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN("postgres")), "SELECT pg_terminate_backend(p) FROM unnest($1::int[]) p", g.ServerPIDs())
	require.EqualValues(t, 2, g.Status().ClientErrors)
}
