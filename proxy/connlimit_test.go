package proxy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/auth"
	"crossfade/proxy/move"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// limited is a rig with two roles: the run's own, and an application's, which has its own
// name on the source and may have so many connections there and on the target.
func limited(t *testing.T, source, target string) (*rig, func() *raw) {
	t.Helper()
	g := &rig{source: pgtestDatabase(t, string(pgtest.Source)), target: pgtestDatabase(t, string(pgtest.Target))}
	app := "app_" + g.source.Database()
	for kind, side := range map[pgtest.Kind]struct{ limit, database string }{pgtest.Source: {source, g.source.Database()}, pgtest.Target: {target, g.target.Database()}} {
		admin := pgtest.Conn(t, pgtest.Shared(t, kind).AdminDSN("postgres"))
		run(t, admin, "CREATE ROLE "+app+" LOGIN PASSWORD 'secret' CONNECTION LIMIT "+side.limit)
		run(t, admin, "GRANT CONNECT ON DATABASE "+side.database+" TO "+app)
		t.Cleanup(func() {
			eventually(t, "its sessions have ended", func() bool {
				return value(t, admin, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", app) == "0"
			})
			run(t, admin, "REVOKE CONNECT ON DATABASE "+side.database+" FROM "+app)
			run(t, admin, "DROP ROLE "+app)
		})
	}
	g.start(t, func(c *Config) {
		c.User, c.Database = g.source.User(), g.source.Database()
		c.Auth = auth.NewUsers(auth.User{Name: g.source.User(), Secret: auth.Plain(g.source.Password())}, auth.User{Name: app, Secret: auth.Trust()})
		for _, e := range []*Endpoint{&c.Source, &c.Target} {
			own := e.Credentials
			e.Credentials = func(user string) (string, string, bool) {
				if user == app {
					return app, "secret", true
				}
				return own(user)
			}
		}
	})
	return g, func() *raw { return g.rawDial(t, wire.Param{Name: "user", Value: app}) }
}

// TestAPoolThatUsesUpItsConnectionsMoves: questions outside the sessions are asked by a role that
// has a connection left.
func TestAPoolThatUsesUpItsConnectionsMoves(t *testing.T) {
	t.Parallel()
	g, dial := limited(t, "3", "3")
	var pool []*raw
	for range 3 {
		pool = append(pool, dial())
	}
	require.Equal(t, "TDCZ", pool[0].query("SELECT pg_advisory_lock(1)"))
	pool[1].send(wiretest.AppendQuery(nil, "SELECT pg_advisory_lock(1)"))
	g.busySessions(t, 1)
	ctx := within(t)
	_, err := g.Stage(ctx, 1)
	require.NoError(t, err)
	paused := make(chan error, 1)
	go func() {
		_, err := g.Pause(ctx, 1, time.Minute)
		paused <- err
	}()
	eventually(t, "the holder is let go on", func() bool { return g.Status().Closed && g.Status().Parked == 1 })
	require.Equal(t, "TDCZ", pool[0].query("SELECT pg_advisory_unlock(1)"))
	require.Equal(t, "TDCZ", shape(pool[1].until('Z')))
	require.NoError(t, <-paused)
	_, err = g.Restage(ctx, 1)
	require.NoError(t, err)
	report, err := g.Switch(ctx, 1, Target)
	require.NoError(t, err)
	require.Equal(t, 3, report.Moved)
	for _, c := range pool {
		require.Equal(t, g.target.Database(), one(t, c.answer("SELECT current_database()")))
	}
}

// TestARoleThatMayNotConnectAnyMoreMoves: its sessions are there, and another one's
// connection is as good.
func TestARoleThatMayNotConnectAnyMoreMoves(t *testing.T) {
	t.Parallel()
	g, dial := limited(t, "-1", "-1")
	c := dial()
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(g.source.Database()))
	run(t, admin, "ALTER ROLE app_"+g.source.Database()+" NOLOGIN")
	g.toTarget(t)
	require.Equal(t, g.target.Database(), one(t, c.answer("SELECT current_database()")))
}

// TestWhatAMoveNeedsIsCountedBeforeItIsTried: the limit is named with what to do, and no
// connection is made in vain.
func TestWhatAMoveNeedsIsCountedBeforeItIsTried(t *testing.T) {
	t.Parallel()
	g, dial := limited(t, "-1", "2")
	var pool []*raw
	for range 5 {
		pool = append(pool, dial())
	}
	app := "app_" + g.source.Database()
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN(g.target.Database()))
	_, err := g.Stage(within(t), 1)
	var lacks *move.ConnLimitError
	require.ErrorAs(t, err, &lacks)
	require.Len(t, lacks.Lacks, 1)
	remedy := `ALTER ROLE "` + app + `" CONNECTION LIMIT 5`
	require.ErrorContains(t, err, "role "+app+" may have 2 connections there and has 0, and 5 more are needed: "+remedy+" there")
	require.Equal(t, "0", value(t, admin, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", app))
	run(t, admin, remedy)

	run(t, admin, "ALTER DATABASE "+g.target.Database()+" CONNECTION LIMIT 3")
	_, err = g.Stage(within(t), 2)
	require.ErrorAs(t, err, &lacks)
	require.ErrorContains(t, err, "database "+g.target.Database()+" may have 3 connections there")
	run(t, admin, "ALTER DATABASE "+g.target.Database()+" CONNECTION LIMIT 10")
	g.epoch = 2
	g.toTarget(t)
	for _, c := range pool {
		require.Equal(t, g.target.Database(), one(t, c.answer("SELECT current_database()")))
	}
}

// TestTheConnectionLimitOfARoleIsItsOwn: sessions of another role use up nothing of its limit,
// whether they are to be moved or are there already. The database has room for all.
func TestTheConnectionLimitOfARoleIsItsOwn(t *testing.T) {
	t.Parallel()
	g, dial := limited(t, "-1", "2")
	pool := []*raw{dial(), dial()}
	for range 3 {
		g.dial(t)
		pgtest.Conn(t, g.target)
	}
	ctx := within(t)
	_, err := g.Stage(ctx, 1)
	require.NoError(t, err, "two are needed, and two may be")
	g.Discard(ctx)

	pool = append(pool, dial())
	_, err = g.Stage(ctx, 2)
	var lacks *move.ConnLimitError
	require.ErrorAs(t, err, &lacks)
	require.Len(t, lacks.Lacks, 1)
	require.Equal(t, "app_"+g.source.Database(), lacks.Lacks[0].Name)
	require.EqualValues(t, 3, lacks.Lacks[0].Need)
	require.Zero(t, lacks.Lacks[0].Used)

	require.NoError(t, pool[2].conn.Close())
	eventually(t, "it is gone", func() bool { return g.Status().Sessions == 5 })
	g.epoch = 2
	require.Equal(t, 5, g.toTarget(t).Moved)
	for _, c := range pool[:2] {
		require.Equal(t, g.target.Database(), one(t, c.answer("SELECT current_database()")))
	}
}

// TestASessionThatCannotMoveNeedsNoConnection: what the last look has found of it is enough
// not to count it.
func TestASessionThatCannotMoveNeedsNoConnection(t *testing.T) {
	t.Parallel()
	g, dial := limited(t, "-1", "2")
	pool := []*raw{dial(), dial(), dial()}
	require.Equal(t, "CZ", pool[0].query("CREATE TEMP TABLE mine (id int)"))
	ctx := within(t)
	require.NoError(t, g.Attempt(ctx, 1, UnmovableDisconnect, 0))
	var lacks *move.ConnLimitError
	_, err := g.Stage(ctx, 1)
	require.ErrorAs(t, err, &lacks, "nobody has looked at it yet")
	g.Sessions(ctx, true)
	_, err = g.Stage(ctx, 1)
	require.NoError(t, err)
}
