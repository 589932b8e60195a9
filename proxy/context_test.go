package proxy

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// ask parses, or runs what was parsed, and returns the rows that come, or the SQLSTATE.
func (c *raw) ask(parts ...[]byte) string {
	c.t.Helper()
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	c.send(all)
	return answer(c.t, c.until('Z'))
}

func answer(t testing.TB, frames []wire.Frame) string {
	t.Helper()
	var rows []string
	for _, f := range frames {
		switch f.Type {
		case 'D':
			cols, err := wire.DecodeDataRow(nil, f.Body)
			require.NoError(t, err)
			var row []string
			for _, v := range cols {
				row = append(row, string(v))
			}
			rows = append(rows, strings.Join(row, ","))
		case 'E':
			e, err := wire.DecodeError(f.Body)
			require.NoError(t, err)
			rows = append(rows, e.Code)
		}
	}
	return strings.Join(rows, ";")
}

func (c *raw) sql(text string) string { return c.ask(wiretest.AppendQuery(nil, text)) }

func parsed(name, text string) []byte {
	return wire.AppendSync(wire.AppendParse(nil, name, text, nil))
}

func bound(name string, values ...string) []byte {
	var params [][]byte
	for _, v := range values {
		params = append(params, []byte(v))
	}
	return wire.AppendSync(wire.AppendExecute(wire.AppendBind(nil, "", name, nil, params, nil), "", 0))
}

// contextSchema has tenants whose tables differ.
var contextSchema = []string{
	"CREATE SCHEMA t1", "CREATE SCHEMA t2",
	"CREATE TABLE t1.only1 (id int, v text)", "INSERT INTO t1.only1 VALUES (1, 'one')",
	"CREATE TABLE t1.both_ (id int, v text)", "INSERT INTO t1.both_ VALUES (1, 'of t1')",
	"CREATE TABLE t2.both_ (v text, id int)", "INSERT INTO t2.both_ VALUES ('of t2', 1)",
	"CREATE FUNCTION public.enter(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('search_path', t || ', public', false); END $$",
}

func TestStatementsKeepWhatTheyWereParsedUnder(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.both(t, contextSchema...)
	type one struct {
		name   string
		before []string // Query, or "name: text" for a Parse
		use    []string // Query, or "name: value" for a Bind and Execute
		want   string   // of the last use
		c      *raw
	}
	list := []*one{
		{name: "a path of a tenant", before: []string{"SET search_path = t1", "s: SELECT * FROM only1 WHERE id = $1", "SET search_path = t2"},
			use: []string{"SET search_path = t1", "s: 1"}, want: "1,one"},
		{name: "a path of a transaction", before: []string{"BEGIN", "SET LOCAL search_path = t1", "s: SELECT * FROM only1 WHERE id = $1", "COMMIT"},
			use: []string{"BEGIN; SET LOCAL search_path = t1", "s: 1"}, want: "1,one"},
		{name: "a path that set_config has made", before: []string{"SELECT set_config('search_path', 't1', false)", "s: SELECT * FROM only1 WHERE id = $1", "RESET ALL"},
			use: []string{"SET search_path = t1", "s: 1"}, want: "1,one"},
		{name: "a path that a function has made", before: []string{"SELECT public.enter('t1')", "s: SELECT v FROM only1 WHERE id = $1", "SELECT public.enter('t2')"},
			use: []string{"SELECT public.enter('t1')", "s: 1"}, want: "one"},
		{name: "a path, by SQL", before: []string{"SET search_path = t1; PREPARE s AS SELECT * FROM only1 WHERE id = $1", "SET search_path = t2"},
			use: []string{"SET search_path = t1", "EXECUTE s(1)"}, want: "1,one"},
		{name: "a table that both tenants have in other forms", before: []string{"SET search_path = t1", "s: SELECT * FROM both_ WHERE id = $1", "SET search_path = t2"},
			use: []string{"SET search_path = t1", "s: 1"}, want: "1,of t1"},
		{name: "the same under the other's path", before: []string{"SET search_path = t1", "s: SELECT * FROM both_ WHERE id = $1", "SET search_path = t2"},
			use: []string{"s: 1"}, want: "0A000"},
		{name: "a date", before: []string{"SET datestyle = 'ISO, DMY'", "s: SELECT '01/02/2020'::date", "SET datestyle = 'ISO, MDY'"},
			use: []string{"s"}, want: "2020-02-01"},
		{name: "a date by SQL", before: []string{"SET datestyle = 'ISO, DMY'; PREPARE s AS SELECT '01/02/2020'::date", "SET datestyle = 'ISO, MDY'"},
			use: []string{"EXECUTE s"}, want: "2020-02-01"},
		{name: "a time zone", before: []string{"SET timezone = 'Asia/Tokyo'", "s: SELECT '2020-01-01 00:00'::timestamptz", "SET timezone = 'UTC'"},
			use: []string{"s"}, want: "2019-12-31 15:00:00+00"},
		{name: "an interval", before: []string{"SET intervalstyle = sql_standard", "s: SELECT '-1 2:03:04'::interval", "SET intervalstyle = postgres"},
			use: []string{"s"}, want: "-1 days -02:03:04"},
		{name: "backslashes", before: []string{"SET standard_conforming_strings = off", `s: SELECT 'a\\b'`, "SET standard_conforming_strings = on"},
			use: []string{"s"}, want: `a\b`},
		{name: "backslashes by SQL", before: []string{"SET standard_conforming_strings = off", `PREPARE s AS SELECT 'a\';b'`, "SET standard_conforming_strings = on"},
			use: []string{"EXECUTE s"}, want: `a';b`},
		{name: "arrays with NULL", before: []string{"SET array_nulls = off", "s: SELECT ('{NULL}'::text[])[1] IS NULL", "SET array_nulls = on"},
			use: []string{"s"}, want: "f"},
		{name: "= NULL", before: []string{"SET transform_null_equals = on", "s: SELECT NULL = NULL", "RESET ALL"},
			use: []string{"s"}, want: "t"},
		{name: "the unnamed one", before: []string{": SELECT 0", "SET datestyle = 'ISO, DMY'", "x: SET datestyle = 'ISO, MDY'", ": SELECT '01/02/2020'::date", "x"},
			use: []string{":"}, want: "2020-02-01"},
		{name: "a setting that was rolled back", before: []string{"BEGIN; SET search_path = t2", "ROLLBACK", "SET search_path = t1", "s: SELECT * FROM both_", "SET search_path = t2"},
			use: []string{"SET search_path = t1", "s"}, want: "1,of t1"},
		{name: "a name that is given twice", before: []string{"SET datestyle = 'ISO, DMY'", "s: SELECT '01/02/2020'::date", "SET datestyle = 'ISO, MDY'", "s: SELECT '01/02/2020'::date"},
			use: []string{"s"}, want: "2020-02-01"},
		{name: "prepared again between", before: []string{"SET datestyle = 'ISO, DMY'", "s: SELECT '01/02/2020'::date", "DEALLOCATE s", "SET datestyle = 'ISO, MDY'", "s: SELECT '01/02/2020'::date"},
			use: []string{"s"}, want: "2020-01-02"},
	}
	do := func(c *raw, what string) string {
		name, text, isParse := strings.Cut(what, ": ")
		switch {
		case isParse && len(name) < 2 && len(text) > 2:
			return c.ask(parsed(name, text))
		case isParse:
			return c.ask(bound(name, text))
		case what == "s" || what == "x" || what == ":":
			return c.ask(bound(strings.TrimSuffix(what, ":")))
		}
		return c.sql(what)
	}
	for _, o := range list {
		o.c = g.rawDial(t)
		for _, b := range o.before {
			do(o.c, b)
		}
	}
	for range 2 { // there, and back
		g.moveTo(t, g.sides.Other().Name)
		for _, o := range list {
			got := ""
			for _, u := range o.use {
				got = do(o.c, u)
			}
			require.Equal(t, o.want, got, "%s, at the %s", o.name, g.Status().Active)
			if strings.HasPrefix(o.use[0], "BEGIN") {
				do(o.c, "ROLLBACK")
			}
		}
	}
}

func TestAStatementThatCannotBeParsedIsParsedWhenItIsUsed(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.both(t, contextSchema...)
	both := func(sql string) { g.both(t, sql) }
	both("CREATE TABLE public.comes_back (id int)")
	c := g.rawDial(t)
	c.ask(parsed("s", "SELECT id FROM public.comes_back WHERE id = $1"))
	c.ask(parsed("never", "SELECT id FROM public.comes_back"))
	c.ask(parsed("closed", "SELECT id FROM public.comes_back"))
	c.sql("PREPARE q AS SELECT id FROM public.comes_back")
	pgtest.Exec(t, pgtest.Conn(t, g.source), "DROP TABLE public.comes_back")
	pgtest.Exec(t, pgtest.Conn(t, g.target), "DROP TABLE public.comes_back")

	infos := g.Sessions(within(t), true)
	require.Equal(t, "amber", infos[0].Verdict)
	require.Equal(t, "late_statement", infos[0].Reasons[0].Code)
	for range 2 {
		g.moveTo(t, g.sides.Other().Name)
		require.Equal(t, "42P01", c.ask(bound("s", "1")))
		require.Equal(t, "1;42P01;2", c.ask(
			wire.AppendExecute(wire.AppendBind(wire.AppendParse(nil, "", "SELECT 1", nil), "", "", nil, nil, nil), "", 0),
			bound("s", "1"), wiretest.AppendQuery(nil, "SELECT 2"))+";"+answer(t, c.until('Z')), "in a pipeline")
		require.Equal(t, "1", c.sql("SELECT 1"))
	}
	g.moveTo(t, g.sides.Other().Name)
	both("CREATE TABLE public.comes_back (id int)")
	both("INSERT INTO public.comes_back VALUES (1)")
	c.sql("BEGIN")
	c.send(bound("s", "1"))
	require.Equal(t, "2DCZ", shape(c.until('Z')), "of our Parse nothing is seen")
	c.sql("COMMIT")
	c.send(bound("s", "1"))
	require.Equal(t, "2DCZ", shape(c.until('Z')))
	require.Equal(t, "1", c.sql("EXECUTE q"))
	require.Equal(t, "42P05", c.ask(parsed("never", "SELECT 1")), "its name is taken, as it was")
	c.send(wire.AppendSync(wire.AppendClose(nil, 'S', "closed")))
	require.Equal(t, "3Z", shape(c.until('Z')))
	require.Equal(t, "26000", c.ask(bound("closed")))
	g.moveTo(t, g.sides.Other().Name)
	require.Equal(t, "1", c.ask(bound("s", "1")))
	c.sql("DISCARD ALL")
	require.Equal(t, "26000", c.ask(bound("never")))
}

func TestAStatementThatReturnsSomethingElseIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ source, target, sql, want string }{
		"order":      {"CREATE TABLE public.t (a int, b text)", "CREATE TABLE public.t (b text, a int)", "SELECT * FROM public.t", `column 1: "a" integer where it was prepared, "b" text on the other side`},
		"name":       {"CREATE TABLE public.t (a int, b int)", "CREATE TABLE public.t (a int, c int)", "SELECT * FROM public.t", `column 2: "b" where it was prepared, "c" on the other side`},
		"type":       {"CREATE TABLE public.t (a int, b int)", "CREATE TABLE public.t (a int, b bigint)", "SELECT b AS x FROM public.t", `column 1: "x" integer where it was prepared, "x" bigint on the other side`},
		"a function": {"CREATE FUNCTION public.t() RETURNS date LANGUAGE sql AS 'SELECT current_date'", "CREATE FUNCTION public.t() RETURNS timestamp LANGUAGE sql AS 'SELECT localtimestamp'", "SELECT public.t()", `"t" timestamp without time zone on the other side`},
		"columns":    {"CREATE TABLE public.t (a int)", "CREATE TABLE public.t (a int, b int)", "SELECT * FROM public.t", "returns: 1 column where it was prepared, 2 columns on the other side"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
			pgtest.Exec(t, pgtest.Conn(t, g.source), c.source)
			pgtest.Exec(t, pgtest.Conn(t, g.target), c.target)
			named, prepared, unnamed := g.rawDial(t), g.rawDial(t), g.rawDial(t)
			named.ask(parsed("s", c.sql))
			prepared.sql("PREPARE s AS " + c.sql)
			unnamed.ask(parsed("", c.sql))
			_, err := g.Stage(within(t), 1)
			var refused *UnmovableError
			require.ErrorAs(t, err, &refused)
			require.Len(t, refused.Sessions, 3)
			for _, n := range refused.Sessions {
				require.Contains(t, n.Detail, c.want)
			}
		})
	}
}

func TestALockedTableIsNoReasonToTakeAStatementForDead(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.both(t, "CREATE TABLE public.locked (id int)")
	c := g.rawDial(t)
	c.ask(parsed("s", "SELECT id FROM public.locked"))
	holder := pgtest.Conn(t, g.source)
	run(t, holder, "BEGIN; ALTER TABLE public.locked ADD v int") // has the statement looked at again
	_, err := g.Stage(within(t), 1)
	var refused *UnmovableError
	require.ErrorAs(t, err, &refused)
	require.Contains(t, refused.Error(), "55P03")
	require.Equal(t, "2", c.sql("SELECT 2"), "the client goes on")
	run(t, holder, "ROLLBACK")
	g.toTarget(t)
	c.send(bound("s"))
	require.Equal(t, "2CZ", shape(c.until('Z')))
}
