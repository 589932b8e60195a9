package proxy

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/session"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

func TestTenantOfRowLevelSecurityMoves(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.both(t,
		"CREATE TABLE public.docs (tenant text, body text)",
		"INSERT INTO public.docs VALUES ('a', 'of a'), ('b', 'of b')",
		"ALTER TABLE public.docs ENABLE ROW LEVEL SECURITY",
		"ALTER TABLE public.docs FORCE ROW LEVEL SECURITY",
		"CREATE POLICY p ON public.docs USING (tenant = current_setting('app.tenant_id', true))",
		"CREATE FUNCTION public.enter(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.tenant_id', t, false); END $$",
	)
	visible := func(conn *pgx.Conn) string {
		return value(t, conn, "SELECT string_agg(body, ',') FROM public.docs")
	}
	set, bound, hidden, none := g.dial(t), g.dial(t), g.dial(t), g.dial(t)
	run(t, set, "SET app.tenant_id = 'a'")
	run(t, bound, "SELECT set_config('app.tenant_id', $1, false)", "b")
	run(t, hidden, "SELECT public.enter($1)", "a") // its name stands in the catalog only
	for _, side := range []string{Source, Target, Source} {
		if side != g.Status().Active {
			g.moveTo(t, side)
		}
		require.Equal(t, "of a", visible(set))
		require.Equal(t, "of b", visible(bound))
		require.Equal(t, "of a", visible(hidden))
		require.Equal(t, "", visible(none))
	}
	// Changed between staging and the pause: the difference is replayed.
	ctx := within(t)
	g.epoch++
	_, err := g.Stage(ctx, g.epoch)
	require.NoError(t, err)
	run(t, set, "SET app.tenant_id = 'b'")
	run(t, none, "SELECT set_config('app.tenant_id', $1, false)", "a")
	_, err = g.Pause(ctx, g.epoch, time.Second)
	require.NoError(t, err)
	report, err := g.Restage(ctx, g.epoch)
	require.NoError(t, err)
	require.Equal(t, 2, report.Captured, "only what sent anything is captured again")
	_, err = g.Switch(ctx, g.epoch, Target)
	require.NoError(t, err)
	require.Equal(t, "of b", visible(set))
	require.Equal(t, "of a", visible(none))
}

func TestStatementsOfBothKindsMove(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	pgtest.Exec(t, pgtest.Conn(t, g.target), "CREATE TYPE public.shift AS ENUM ('x')") // OIDs differ now
	g.both(t, "CREATE TYPE public.mood AS ENUM ('sad', 'ok')", "CREATE TABLE public.t (id int, m public.mood)",
		"INSERT INTO public.t VALUES (1, 'sad'), (2, 'ok')")
	conn := g.dial(t)
	_, err := conn.Prepare(within(t), "by_id", "SELECT m::text FROM public.t WHERE id = $1")
	require.NoError(t, err)
	_, err = conn.Prepare(within(t), "by_mood", "SELECT id FROM public.t WHERE m = $1")
	require.NoError(t, err)
	run(t, conn, "INSERT INTO public.t VALUES (3, 'ok'); PREPARE sql_one (public.mood) AS SELECT count(*) FROM public.t WHERE m = $1")
	for range 3 {
		var m string
		require.NoError(t, conn.QueryRow(within(t), "by_id", 2).Scan(&m))
		require.Equal(t, "ok", m)
		var id int
		require.NoError(t, conn.QueryRow(within(t), "by_mood", "sad").Scan(&id))
		require.Equal(t, 1, id)
		var n int
		want := map[string]int{Source: 2, Target: 1}[g.Status().Active]
		require.NoError(t, conn.QueryRow(within(t), "EXECUTE sql_one('ok')", pgx.QueryExecModeSimpleProtocol).Scan(&n))
		require.Equal(t, want, n, "the INSERT beside the PREPARE is not repeated")
		g.moveTo(t, g.sides.Other().Name)
	}
}

func TestUnnamedStatementMoves(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c := g.rawDial(t)
	run := func() []byte {
		c.send(wire.AppendSync(wire.AppendExecute(wire.AppendBind(nil, "", "", nil, [][]byte{[]byte("42")}, nil), "", 0)))
		frames := c.until('Z')
		require.Equal(t, "2DCZ", shape(frames))
		cols, err := wire.DecodeDataRow(nil, frames[1].Body)
		require.NoError(t, err)
		return cols[0]
	}
	c.send(wire.AppendSync(wire.AppendParse(nil, "", "SELECT $1 || current_database()", []uint32{25})))
	require.Equal(t, "1Z", shape(c.until('Z')))
	g.toTarget(t)
	require.Equal(t, "42"+g.target.Database(), string(run()))
	g.toSource(t)
	require.Equal(t, "42"+g.source.Database(), string(run()))

	// Between staging and pause there is another one.
	g.epoch++
	_, err := g.Stage(within(t), g.epoch)
	require.NoError(t, err)
	c.send(wire.AppendSync(wire.AppendParse(nil, "", "SELECT 'other' || $1", []uint32{25})))
	require.Equal(t, "1Z", shape(c.until('Z')))
	g.toTarget(t)
	require.Equal(t, "other42", string(run()))

	require.Equal(t, "TDCZ", c.query("SELECT 1")) // ends it
	g.toSource(t)
	c.send(wire.AppendSync(wire.AppendBind(nil, "", "", nil, [][]byte{[]byte("42")}, nil)))
	require.Equal(t, "EZ", shape(c.until('Z')), "there is none, as without a move")
}

func TestRoleAndParameterStatusMove(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	role := "r" + g.source.Database()
	for k, dsn := range map[pgtest.Kind]string{pgtest.Source: g.source.User(), pgtest.Target: g.target.User()} {
		admin := pgtest.Conn(t, pgtest.Shared(t, k).AdminDSN("postgres"))
		run(t, admin, "CREATE ROLE "+role+"; GRANT "+role+" TO "+dsn)
		t.Cleanup(func() { run(t, admin, "DROP ROLE "+role) })
	}
	conn := g.dial(t)
	require.Equal(t, g.source.User(), conn.PgConn().ParameterStatus("session_authorization"))
	run(t, conn, "SET ROLE "+role)
	run(t, conn, "SET TimeZone = 'Europe/Berlin'")
	g.toTarget(t)
	require.Equal(t, role, value(t, conn, "current_user"))
	require.Equal(t, "Europe/Berlin", conn.PgConn().ParameterStatus("TimeZone"))
	require.Equal(t, g.source.User(), conn.PgConn().ParameterStatus("session_authorization"))
	run(t, conn, "RESET ROLE")
	require.Equal(t, g.target.User(), value(t, conn, "current_user"))
	run(t, conn, "SET ROLE "+g.target.User())
	g.toSource(t)
	require.Equal(t, g.source.User(), value(t, conn, "current_user"), "the login's role is translated")
}

// A group that is another role on the other side has no credentials there, and is translated all
// the same: what a session has set, what it asked for at its start, and what is pinned.
func TestAGroupOfAnotherNameMoves(t *testing.T) {
	t.Parallel()
	base := "r" + pgtest.Value(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN("postgres")), "SELECT substr(md5(random()::text), 1, 12)")
	here, there := base+"_here", base+"_there"
	pinned := false
	g := newRig(t, func(c *Config) {
		c.Auth = trustAll{}
		c.Target.Role = func(name string) string {
			if name == here {
				return there
			}
			return name
		}
		c.Target.Pins = func(context.Context, string, string) ([]wire.Param, error) {
			if pinned {
				return []wire.Param{{Name: "role", Value: here}}, nil
			}
			return nil, nil
		}
	})
	for k, x := range map[pgtest.Kind][2]string{pgtest.Source: {here, g.source.User()}, pgtest.Target: {there, g.target.User()}} {
		admin := pgtest.Conn(t, pgtest.Shared(t, k).AdminDSN("postgres"))
		run(t, admin, "CREATE ROLE "+x[0]+"; GRANT "+x[0]+" TO "+x[1])
		t.Cleanup(func() { run(t, admin, "DROP ROLE "+x[0]) })
	}
	c, asked := g.rawDial(t), g.rawDial(t, wire.Param{Name: "options", Value: "-c role=" + here})
	c.sql("SET ROLE " + here)
	c.ask(parsed("s", "SELECT current_user"))
	require.Equal(t, here, asked.sql("SELECT current_user"))
	g.toTarget(t)
	require.Equal(t, there, c.sql("SELECT current_user"))
	require.Equal(t, there, c.ask(bound("s")))
	require.Equal(t, there, asked.sql("SELECT current_user"))
	require.Equal(t, there, g.rawDial(t, wire.Param{Name: "options", Value: "-c role=" + here}).sql("SELECT current_user"), "a login after the switch")
	pinned = true
	require.Equal(t, there, g.rawDial(t).sql("SELECT current_user"), "what is pinned")
}

func TestChangedParameterStatusComesWithTheNextResponse(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c := g.rawDial(t)
	session.DoorOf(g.relays()[0]).Told("server_version", "9.6") // as a source of another version would have said
	g.toTarget(t)
	c.send(wiretest.AppendQuery(nil, "SELECT 1"))
	frames := c.until('Z')
	require.Equal(t, "STDCZ", shape(frames))
	p, err := wire.DecodeParameterStatus(frames[0].Body)
	require.NoError(t, err)
	require.Equal(t, "server_version", p.Name)
	require.Equal(t, "TDCZ", c.query("SELECT 1"), "once")
}
