package proxy

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

// The tests of the files rows_*_test.go follow the table of session state in
// docs/design/session-state.md row by row. Each moves live sessions to and fro
// between two clusters where the OIDs of users' types differ.

// apart makes a type, of which the OID differs from side to side.
func (g *rig) apart(t testing.TB) {
	t.Helper()
	pgtest.Exec(t, pgtest.Conn(t, g.target), "CREATE TYPE public.shift AS ENUM ('x')")
	const mood = "CREATE TYPE public.mood AS ENUM ('sad', 'ok')"
	g.both(t, mood)
	differ(t, pgtest.Conn(t, g.source), pgtest.Conn(t, g.target), mood)
}

// differ makes the type mood again on the target until it has another number than on the source:
// the servers count for all tests, and may meet.
func differ(t testing.TB, source, target *pgx.Conn, create string) {
	t.Helper()
	oid := func(c *pgx.Conn) string { return value(t, c, "SELECT oid FROM pg_type WHERE typname = 'mood'") }
	for oid(source) == oid(target) {
		pgtest.Exec(t, target, "DROP TYPE public.mood")
		pgtest.Exec(t, target, create)
	}
}

// simply makes a client use simple queries alone, so that a driver adds nothing to the state that a
// test makes.
func simply(c *pgx.ConnConfig) { c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol }

// says runs a statement and returns the first value that it gives.
func says(t testing.TB, conn *pgx.Conn, sql string) string {
	t.Helper()
	results, err := conn.PgConn().Exec(within(t), sql).ReadAll()
	require.NoError(t, err, sql)
	for _, r := range results {
		if len(r.Rows) > 0 {
			return string(r.Rows[0][0])
		}
	}
	return ""
}

// movingRow is state that moves whole.
type movingRow struct {
	row     string
	name    string
	options map[string]string // start-up parameters
	first   string            // what the client does first,
	setup   string            // and then
	ask     string            // what it asks then, on either side,
	want    string            // and gets
	reset   string            // what it does in between,
	left    string            // and what it gets then
	undo    string            // what it does ahead of the setup, again
}

var movingRows = []movingRow{
	{row: "1", name: "settings", setup: "SET work_mem = '9123kB'; SET TimeZone = '<-08>+08'; SET DateStyle = 'German, DMY'; SET search_path = 'od d', public;" +
		" SET statement_timeout = '41s'; SELECT set_config('bytea_output', 'escape', false)",
		ask: "SELECT concat_ws('|', current_setting('work_mem'), current_setting('TimeZone'), current_setting('DateStyle'), current_setting('search_path')," +
			" current_setting('statement_timeout'), current_setting('bytea_output'))",
		want:  `9123kB|<-08>+08|German, DMY|"od d", public|41s|escape`,
		reset: "RESET ALL", left: `4MB|UTC|ISO, MDY|"$user", public|0|hex`},
	{row: "1", name: "encoding", first: "SET client_encoding = 'LATIN1'",
		setup: "PREPARE umlaut AS SELECT length('\xe4') || current_setting('app.umlaut'); SET app.umlaut = '\xfc'",
		ask:   "EXECUTE umlaut", want: "1\xfc", reset: "DEALLOCATE umlaut; PREPARE umlaut AS SELECT '\xe4'", left: "\xe4", undo: "DEALLOCATE umlaut"},
	{row: "1, 28", name: "setting of a library", setup: "DO $$ BEGIN END $$; UPDATE pg_settings SET setting = 'shadowed_variables' WHERE name = 'plpgsql.extra_warnings'",
		ask: "SELECT current_setting('plpgsql.' || 'extra_warnings')", want: "shadowed_variables", reset: "RESET ALL", left: "none"}, // which no statement names
	{row: "1, 28", name: "setting of an extension", setup: "SELECT similarity('a', 'b'); SET pg_trgm.similarity_threshold = 0.9",
		ask:  "SELECT ('word' % 'words')::text || current_setting('pg_trgm.similarity_threshold')",
		want: "false0.9", reset: "RESET ALL", left: "true0.3"},
	{row: "2", name: "custom setting", setup: "SET App.tenant = 'a''b\\c'", ask: "SELECT current_setting('app.tenant')", want: `a'b\c`,
		reset: "RESET app.tenant", left: ""},
	{row: "2", name: "empty custom setting", setup: "BEGIN; SET LOCAL app.gone = 'x'; COMMIT", ask: "SELECT coalesce(current_setting('app.gone', true), 'never set')", want: ""},
	{row: "3", name: "start-up", options: map[string]string{"application_name": "shop", "DateStyle": "German",
		"options": `-c app.start=o\ n\\e --work-mem=7MB -c TimeZone=Asia/Tokyo`},
		setup: "SET DateStyle = 'ISO'; SET app.start = 'two'; SET work_mem = '8MB'; SET application_name = 'other'; RESET TimeZone",
		ask: "SELECT concat_ws('|', current_setting('DateStyle'), current_setting('app.start'), current_setting('work_mem')," +
			" current_setting('application_name'), current_setting('TimeZone'))",
		want:  "ISO, DMY|two|8MB|other|Asia/Tokyo",
		reset: "DISCARD ALL", left: `German, DMY|o n\e|7MB|shop|Asia/Tokyo`},
	{row: "5", name: "within a transaction only", setup: "BEGIN; SET LOCAL work_mem = '1MB'; SET TRANSACTION READ ONLY; COMMIT; SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
		ask: "SELECT concat_ws('|', current_setting('work_mem'), current_setting('transaction_read_only'), current_setting('transaction_isolation'))", want: "4MB|off|repeatable read"},
	{row: "8", name: "random", setup: "SELECT setseed(0.5)", ask: "SELECT (random() BETWEEN 0 AND 1)::text", want: "true"},
	{row: "10", name: "PREPARE with a quoted name", setup: `PREPARE "Odd ""name" (public.mood, int) AS SELECT $1::text || ';' || $2`,
		ask: `EXECUTE "Odd ""name" ('ok', 4)`, want: "ok;4", reset: `DEALLOCATE "Odd ""name"; PREPARE "Odd ""name" (public.mood, int) AS SELECT 'anew'`, left: "anew",
		undo: `DEALLOCATE "Odd ""name"`},
	{row: "10", name: "PREPARE among others", setup: "CREATE TABLE IF NOT EXISTS public.once (n int); INSERT INTO public.once VALUES (1); PREPARE a AS SELECT 1; prepare B(int)" +
		" as select $1 + 1 /* ; */; DELETE FROM public.once", ask: "EXECUTE b(4)", want: "5"},
	{row: "10", name: "PREPARE in a DO", setup: `DO $$ BEGIN EXECUTE 'PREPARE inner_one AS SELECT ''in''::text'; END $$`, ask: "EXECUTE inner_one", want: "in"},
	{row: "10", name: "PREPARE of what writes", setup: "PREPARE w AS INSERT INTO public.written VALUES (1) RETURNING 'written'", ask: "EXECUTE w", want: "written"},
	{row: "12", name: "cursor of a transaction", setup: "BEGIN; DECLARE c CURSOR FOR SELECT 1; COMMIT", ask: "SELECT count(*) FROM pg_cursors", want: "0"},
	{row: "13", name: "cursor that is closed", setup: "DECLARE c CURSOR WITH HOLD FOR SELECT 1; CLOSE c", ask: "SELECT count(*) FROM pg_cursors", want: "0"},
	{row: "14", name: "channels", setup: `LISTEN "Odd ""channel"; LISTEN plain; LISTEN gone; UNLISTEN gone`,
		ask: "SELECT string_agg(c, ',' ORDER BY c) FROM pg_listening_channels() c", want: `Odd "channel,plain`},
	{row: "15", name: "temporary table that is dropped", setup: "CREATE TEMP TABLE x (id serial); DROP TABLE x", ask: "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()", want: "0"},
	{row: "16", name: "advisory locks", setup: "SELECT pg_advisory_lock(-9007199254740993), pg_advisory_lock_shared(-3, 4)",
		ask: "SELECT string_agg(concat_ws('/', classid, objid, objsubid, mode), ',' ORDER BY objsubid) FROM pg_locks" +
			" WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
		want: "4292870143/4294967295/1/ExclusiveLock,4294967293/4/2/ShareLock"},
	{row: "17", name: "an INSERT", setup: "INSERT INTO public.written VALUES (0)", ask: "SELECT 'asked'", want: "asked"},
	{row: "32", name: "application_name", setup: "SET application_name = 'odd name'",
		ask: "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()", want: "odd name"},
}

func TestRowsThatMove(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.apart(t)
	g.both(t, "CREATE EXTENSION pg_trgm", "CREATE TABLE public.written (n int)", "CREATE TABLE public.once (n int)", `CREATE SCHEMA "od d"`)
	conns := make([]*pgx.Conn, len(movingRows))
	for i, r := range movingRows {
		conns[i] = g.dial(t, simply, func(c *pgx.ConnConfig) {
			for name, v := range r.options {
				c.RuntimeParams[name] = v
			}
		})
		run(t, conns[i], r.first)
		run(t, conns[i], r.setup)
	}
	asked := func(when string) {
		for i, r := range movingRows {
			require.Equal(t, r.want, says(t, conns[i], r.ask), "row %s, %s, %s", r.row, r.name, when)
		}
	}
	asked("before it moves")
	for move := range 4 {
		g.moveTo(t, g.sides.Other().Name)
		asked("at the " + g.Status().Active)
		for i, r := range movingRows {
			if r.reset == "" {
				continue
			}
			run(t, conns[i], r.reset)
			require.Equal(t, r.left, says(t, conns[i], r.ask), "row %s, %s, after %s in move %d", r.row, r.name, r.reset, move)
			run(t, conns[i], r.undo)
			run(t, conns[i], r.setup)
		}
	}
	require.Equal(t, "0", value(t, pgtest.Conn(t, g.source), "SELECT count(*) FROM public.once"), "nothing beside a PREPARE was repeated")
	require.Equal(t, "0", value(t, pgtest.Conn(t, g.target), "SELECT count(*) FROM public.once"))
}

func TestLossesAreNamed(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.TrackSettings = []string{"app.one"} })
	g.apart(t)
	g.both(t, "CREATE TABLE public.serials (id serial, n int)")
	amber := func() map[string]string {
		g.epoch++
		report, err := g.Stage(within(t), g.epoch)
		require.NoError(t, err)
		codes := map[string]string{}
		for _, n := range report.Amber {
			codes[n.Code] = n.Detail
		}
		return codes
	}
	require.Empty(t, amber())
	locks, inserts, computes := g.dial(t, simply), g.dial(t, simply), g.dial(t, simply)
	run(t, locks, "SELECT pg_advisory_lock(5), pg_advisory_lock(5)")
	run(t, inserts, "BEGIN; INSERT INTO public.serials DEFAULT VALUES; COMMIT")
	run(t, computes, "SELECT set_config('app.' || 'one', 'x', false)")
	codes := amber()
	require.Contains(t, codes["advisory_locks"], "taken once")
	require.Contains(t, codes["sequence_values"], "lastval")
	require.Contains(t, codes["declared_settings"], "--track-settings")
	require.Len(t, codes, 3)
	g.toTarget(t)
	require.Equal(t, "t", says(t, locks, "SELECT pg_advisory_unlock(5)"))
	require.Equal(t, "f", says(t, locks, "SELECT pg_advisory_unlock(5)"), "it was held twice, and is taken once")
	require.Equal(t, "x", says(t, computes, "SELECT current_setting('app.one')"))
	_, err := inserts.PgConn().Exec(within(t), "SELECT lastval()").ReadAll()
	require.ErrorContains(t, err, "55000", "an error, not another session's value")
	run(t, inserts, "INSERT INTO public.serials DEFAULT VALUES")
	require.Equal(t, "1", says(t, inserts, "SELECT lastval()"))
	require.NotContains(t, amber(), "sequence_values", "it has asked")
}
