package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// heldRow is state that keeps its session from being moved, by a code and a word of
// its detail, until it is undone.
type heldRow struct {
	row, name, setup, code, word, undo string
}

var heldRows = []heldRow{
	{"10", "PREPARE that cannot be told apart", "PREPARE p AS SELECT 1; DEALLOCATE p; PREPARE p AS SELECT 2", "prepared_statement", `"p"`, "DEALLOCATE p"},
	{"13", "cursor WITH HOLD", `BEGIN; DECLARE "Odd one" SCROLL CURSOR WITH HOLD FOR SELECT 1; COMMIT`, "held_cursors", "Odd one", `CLOSE "Odd one"`},
	{"15", "temporary table", "CREATE TEMP TABLE scratch (id int PRIMARY KEY) ON COMMIT DELETE ROWS", "temp_objects", "scratch", "DROP TABLE scratch"},
	{"15", "temporary table of a query", "SELECT 1 AS n INTO TEMP found", "temp_objects", "found", "DROP TABLE found"},
	{"15", "temporary view", "CREATE TEMP VIEW glance AS SELECT 1", "temp_objects", "glance", "DROP VIEW glance"},
	{"15", "temporary sequence", "CREATE TEMP SEQUENCE steps", "temp_objects", "steps", "DROP SEQUENCE steps"},
	{"15", "temporary function", "CREATE FUNCTION pg_temp.twice(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1'", "temp_objects", "twice", "DROP FUNCTION pg_temp.twice"},
	{"15", "temporary enum", "CREATE TYPE pg_temp.light AS ENUM ('red')", "temp_objects", "light", "DROP TYPE pg_temp.light"},
	{"15", "temporary composite type", "CREATE TYPE pg_temp.pair AS (a int, b int)", "temp_objects", "pair", "DROP TYPE pg_temp.pair"},
	{"15", "temporary domain", "CREATE DOMAIN pg_temp.small AS int CHECK (VALUE < 9)", "temp_objects", "small", "DROP DOMAIN pg_temp.small"},
	{"15", "temporary operator", "CREATE OPERATOR pg_temp.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)", "temp_objects", "===", "DROP OPERATOR pg_temp.=== (int, int)"},
	{"15", "temporary collation", `CREATE COLLATION pg_temp.plain FROM "C"`, "temp_objects", "plain", "DROP COLLATION pg_temp.plain"},
	{"15", "temporary text search configuration", "CREATE TEXT SEARCH CONFIGURATION pg_temp.words (COPY = simple)", "temp_objects", "words",
		"DROP TEXT SEARCH CONFIGURATION pg_temp.words"},
	{"30", "connection of dblink", "SELECT ext.dblink_connect('there', '%s')", "dblink_connections", "1 named", "SELECT ext.dblink_disconnect('there')"},
	{"2", "name that is computed", "SELECT set_config('app.' || 'x', 'y', false)", "unknown_settings", "computed", ""},
	{"2", "name that is computed in a DO", "DO $$ BEGIN EXECUTE 'SET app.' || 'x' || ' = 1'; END $$", "unknown_settings", "computed", ""},
	{"2", "name that is not ASCII", "SET app.größe = 1", "unknown_settings", "ASCII", ""},
}

func TestRowsThatHold(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.apart(t)
	for _, k := range []pgtest.Kind{pgtest.Source, pgtest.Target} {
		database := map[pgtest.Kind]string{pgtest.Source: g.source.Database(), pgtest.Target: g.target.Database()}[k]
		admin := pgtest.Conn(t, pgtest.Shared(t, k).AdminDSN(database))
		run(t, admin, "CREATE SCHEMA ext; GRANT USAGE ON SCHEMA ext TO PUBLIC; CREATE EXTENSION dblink SCHEMA ext")
	}
	for _, r := range heldRows {
		conn := g.dial(t, simply)
		there := fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s", g.source.Host(), g.source.Port(), g.source.User(), g.source.Password(), g.source.Database())
		run(t, conn, strings.ReplaceAll(r.setup, "%s", there))
		here := g.side(t, conn)
		run(t, conn, "SELECT 1")
		ctx := within(t)
		g.epoch++
		_, err := g.Stage(ctx, g.epoch)
		named := func() {
			t.Helper()
			var unmovable *UnmovableError
			require.ErrorAs(t, err, &unmovable, "row %s, %s", r.row, r.name)
			require.Len(t, unmovable.Sessions, 1)
			require.Equal(t, r.code, unmovable.Sessions[0].Code, "row %s, %s", r.row, r.name)
			require.Contains(t, unmovable.Sessions[0].Detail, r.word, "row %s, %s", r.row, r.name)
			require.NotContains(t, err.Error(), g.source.Password())
		}
		named()
		_, err = g.Pause(ctx, g.epoch, time.Second)
		require.NoError(t, err)
		_, err = g.Restage(ctx, g.epoch)
		named()
		require.NoError(t, g.Resume(ctx, g.epoch))
		require.Equal(t, here, g.side(t, conn), "row %s, %s: it stays where it is", r.row, r.name)
		if r.undo != "" {
			run(t, conn, r.undo)
			g.moveTo(t, g.sides.Other().Name)
			require.NotEqual(t, here, g.side(t, conn))
			g.moveTo(t, g.sides.Other().Name)
			require.Equal(t, here, g.side(t, conn))
		}
		require.NoError(t, conn.Close(ctx))
		eventually(t, "it is gone", func() bool { return g.Status().Sessions == 0 })
	}
}

func TestAnUnnamedStatementAboveItsCapHolds(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.apart(t)
	c := g.rawDial(t)
	large := "SELECT 'large'/*" + strings.Repeat("x", wire.MaxObservedParse) + "*/"
	c.send(wire.AppendSync(wire.AppendParse(nil, "", large, nil)))
	require.Equal(t, "1Z", shape(c.until('Z')))
	_, err := g.Stage(within(t), 1)
	var unmovable *UnmovableError
	require.ErrorAs(t, err, &unmovable)
	require.Equal(t, "unnamed_statement", unmovable.Sessions[0].Code)
	c.send(wire.AppendSync(wire.AppendExecute(wire.AppendBind(nil, "", "", nil, nil, nil), "", 0)))
	require.Equal(t, "2DCZ", shape(c.until('Z')), "it is still there")
	c.send(wire.AppendSync(wire.AppendParse(nil, "", "SELECT 'small'", nil)))
	require.Equal(t, "1Z", shape(c.until('Z')))
	g.epoch = 1
	g.toTarget(t)
	c.send(wire.AppendSync(wire.AppendExecute(wire.AppendBind(nil, "", "", nil, nil, nil), "", 0)))
	require.Equal(t, "2DCZ", shape(c.until('Z')))
}

// TestRowsThatAreNoBoundary has a session in the middle of something: the pause is
// given up and names why, and what was begun is ended where it was begun.
func TestRowsThatAreNoBoundary(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.apart(t)
	g.both(t, "CREATE TABLE public.lines (line text)")
	c := g.rawDial(t)
	for _, r := range []struct {
		row, name, reason string
		begin             []byte
		upTo              byte // what the begin is answered with
		end               []byte
		answer            string
	}{
		{"5, 18", "transaction with SET LOCAL", wire.ReasonTransaction, wiretest.AppendQuery(nil, "BEGIN; SET LOCAL app.here = 'x'; SAVEPOINT s; SET CONSTRAINTS ALL DEFERRED"), 'Z',
			wiretest.AppendQuery(nil, "COMMIT"), "CZ"},
		{"18", "transaction that failed", "in an aborted transaction, which can only be rolled back", wiretest.AppendQuery(nil, "BEGIN; SELECT 1/0"), 'Z', wiretest.AppendQuery(nil, "ROLLBACK"), "CZ"},
		{"12, 18", "portal", wire.ReasonTransaction, wiretest.AppendQuery(nil, "BEGIN; DECLARE c CURSOR FOR SELECT 1"), 'Z', wiretest.AppendQuery(nil, "FETCH c; COMMIT"), "TDCCZ"},
		{"20", "COPY in", wire.ReasonCopy, wiretest.AppendQuery(nil, "COPY public.lines FROM STDIN"), 'G', []byte("d\x00\x00\x00\x06x\nc\x00\x00\x00\x04"), "CZ"},
		{"34", "unit without its Sync", wire.ReasonUnit, append(wire.AppendParse(nil, "half", "SELECT 1", nil), "H\x00\x00\x00\x04"...), '1', wire.AppendSync(nil), "Z"},
	} {
		ctx := within(t)
		g.epoch++
		c.send(r.begin)
		c.until(r.upTo)
		_, err := g.Pause(ctx, g.epoch, 100*time.Millisecond)
		var late *DrainTimeoutError
		require.ErrorAs(t, err, &late, "row %s, %s", r.row, r.name)
		require.Len(t, late.Sessions, 1)
		require.Equal(t, r.reason, late.Sessions[0].Detail, "row %s, %s", r.row, r.name)
		c.send(r.end)
		require.Equal(t, r.answer, shape(c.until('Z')), "row %s, %s", r.row, r.name)
		g.moveTo(t, g.sides.Other().Name)
		require.Equal(t, "TDCZ", c.query("SELECT coalesce(current_setting('app.here', true), '')"))
	}
	require.Equal(t, "1", value(t, pgtest.Conn(t, g.target), "SELECT count(*) FROM public.lines")+value(t, pgtest.Conn(t, g.source), "SELECT nullif(count(*), 0) FROM public.lines"))
}

// TestAWaiterForALockOfAParkedHolder is the deadlock between a drain and an advisory
// lock: it is bounded and named, and both go on.
func TestAWaiterForALockOfAParkedHolder(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.apart(t)
	holder, waiter := g.rawDial(t), g.rawDial(t)
	require.Equal(t, "TDCZ", holder.query("SELECT pg_advisory_lock(9)"))
	waiter.send(wiretest.AppendQuery(nil, "SELECT pg_advisory_lock(9)"))
	watch := pgxAdmin(t, g)
	eventually(t, "it waits", func() bool {
		return value(t, watch, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = $1)", g.source.Database()) == "1"
	})
	_, err := g.Pause(within(t), 1, 100*time.Millisecond)
	var late *DrainTimeoutError
	require.ErrorAs(t, err, &late)
	require.Len(t, late.Sessions, 1)
	require.Equal(t, waiter.pid, late.Sessions[0].PID)
	require.Equal(t, "TDCZ", holder.query("SELECT pg_advisory_unlock(9)"))
	require.Equal(t, "TDCZ", shape(waiter.until('Z')))
	g.epoch = 1
	g.toTarget(t)
	require.Equal(t, "TDCZ", waiter.query("SELECT pg_advisory_unlock(9)"))
}

func TestForeignSessionAuthorizationIsRed(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.apart(t)
	g.stop()
	g.start(t, func(c *Config) {
		c.Auth = trustAll{}
		for at, k := range map[*Endpoint]pgtest.Kind{&c.Source: pgtest.Source, &c.Target: pgtest.Target} {
			super, plain := pgtest.Shared(t, k).AdminDSN("postgres"), at.Credentials
			at.Credentials = func(user string) (string, string, bool) {
				if user == "super" && k == pgtest.Source {
					return super.User(), super.Password(), true
				}
				return plain(g.source.User()) // no superuser at the target
			}
		}
	})
	conn := g.dial(t, simply, func(c *pgx.ConnConfig) { c.User = "super" })
	require.Equal(t, "on", conn.PgConn().ParameterStatus("is_superuser"))
	run(t, conn, "SET SESSION AUTHORIZATION "+g.source.User())
	_, err := g.Stage(within(t), 1)
	var unmovable *UnmovableError
	require.ErrorAs(t, err, &unmovable)
	require.Equal(t, "session_authorization", unmovable.Sessions[0].Code)
	require.Contains(t, unmovable.Sessions[0].Detail, g.source.User())
	run(t, conn, "RESET SESSION AUTHORIZATION; SET log_min_duration_statement = 7; SET deadlock_timeout = '9s'")
	_, err = g.Stage(within(t), 2)
	require.ErrorContains(t, err, "deadlock_timeout", "row 1: what only a superuser may set is named")
	require.NotContains(t, err.Error(), "log_min_duration_statement")
	run(t, conn, "RESET deadlock_timeout")
	g.epoch = 2
	g.toTarget(t)
	require.Equal(t, "on", conn.PgConn().ParameterStatus("is_superuser"), "row 24: not while it is idle")
	run(t, conn, "SELECT 1")
	require.Equal(t, "off", conn.PgConn().ParameterStatus("is_superuser"), "row 24: with its next response")
	g.toSource(t)
	run(t, conn, "SELECT 1")
	require.Equal(t, "on", conn.PgConn().ParameterStatus("is_superuser"))
}
