package state

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/wire"
)

// both runs statements as the owners of the source's and the target's database.
func both(t *testing.T, source, target pg.DSN, statements ...string) {
	t.Helper()
	for _, dsn := range []pg.DSN{source, target} {
		conn := pgtest.Conn(t, dsn)
		for _, sql := range statements {
			pgtest.Exec(t, conn, sql)
		}
	}
}

func TestMirrorOfEveryKindOfState(t *testing.T) {
	t.Parallel()
	source, target := databases(t)
	role := "r" + source.Database()
	for _, k := range []pgtest.Kind{pgtest.Source, pgtest.Target} {
		dsn := source
		if k == pgtest.Target {
			dsn = target
		}
		a := admin(t, k, "postgres")
		pgtest.Exec(t, a, "CREATE ROLE "+role)
		pgtest.Exec(t, a, "GRANT "+role+" TO "+dsn.User())
	}
	// OIDs of the target are moved so that a type has another one there.
	pgtest.Exec(t, pgtest.Conn(t, target), "CREATE SEQUENCE public.shift; DROP SEQUENCE public.shift")
	both(t, source, target,
		"CREATE TYPE public.mood AS ENUM ('sad', 'ok')",
		"CREATE TABLE public.items (id int PRIMARY KEY, mood public.mood, name text)",
		"GRANT ALL ON public.items TO PUBLIC", "GRANT ALL ON SCHEMA public TO PUBLIC")

	client := []wire.Param{
		{Name: "application_name", Value: "shop"},
		{Name: "DateStyle", Value: "German, DMY"},
		{Name: "options", Value: `-c app.start=a\ b\\c -c statement_timeout=45s`},
		{Name: "client_encoding", Value: "LATIN1"},
	}
	s := connect(t, source, client,
		"SET search_path = public, \"od d\", pg_catalog",
		"SET TimeZone = '<-08>+08'",
		"SET work_mem = '9MB'",
		"SET app.tenant_id = 'it''s 42'",
		"SET client_encoding = 'UTF8'",
		"SET default_transaction_read_only = on",
		"SET standard_conforming_strings = off",
		"PREPARE plain (int) AS SELECT id FROM items WHERE id = $1; PREPARE \"Two\" AS SELECT 'ä;'",
		"LISTEN \"Jobs ü\"",
		"SELECT pg_advisory_lock(-5), pg_advisory_lock_shared(1, -2)",
		"SET ROLE "+role,
		"SET client_encoding = 'LATIN1'",
	)
	s.parse("named", Statement{Name: "by mood", Text: "SELECT name FROM items WHERE mood = $1 AND id = $2", Types: []Type{{}, {OID: 20}}}, nil, nil)
	s.parse("unnamed", Statement{Text: "SELECT '\xe4', $1"}, nil, nil)
	require.NoError(t, s.Flush(within(t)))

	names := []string{"app.tenant_id", "app.start", "app.never", "app.x-y", "1.2.3"}
	look := CaptureSpec{Login: source.User(), Names: names, Unnamed: &wire.Parse{Query: "SELECT '\xe4', $1"}}
	want, err := s.Capture(within(t), look)
	require.NoError(t, err)
	verdict, reasons := want.Judge()
	require.Equal(t, Amber, verdict, "%v", reasons)
	require.Equal(t, "it's 42", want.Custom["app.tenant_id"])
	require.Equal(t, `a b\c`, want.Custom["app.start"])
	require.NotContains(t, want.Custom, "app.never")
	require.Equal(t, role, want.Role)
	require.Contains(t, want.Channels, "Jobs ü")
	require.Equal(t, "SELECT 'ä', $1", want.Unnamed.Text)
	require.Equal(t, "mood", want.Statements["by mood"].Types[0].Name)
	require.Len(t, want.Locks, 2)
	again, err := s.Capture(within(t), look)
	require.NoError(t, err)
	require.Equal(t, want, again, "a capture changes nothing")

	roles := mapRole(source, target)
	w := connect(t, target, NewStartup(client).Moved(nil, want, roles))
	fresh, err := w.Capture(within(t), CaptureSpec{Login: target.User(), Names: names})
	require.NoError(t, err)
	require.NotEmpty(t, Compare(want, fresh, Everything, roles))

	calm := want.Calm()
	require.NoError(t, w.Replay(within(t), Diff(calm, fresh, Own, roles)))
	look.Login = target.User()
	staged, err := w.Capture(within(t), look)
	require.NoError(t, err)
	require.Empty(t, Compare(calm, staged, Own, roles))
	require.NotEmpty(t, Compare(want, staged, Everything, roles), "what disturbs and what is shared is still missing")

	rest := Diff(want, staged, Everything, roles)
	require.NoError(t, w.Replay(within(t), rest))
	have, err := w.Capture(within(t), look)
	require.NoError(t, err)
	require.Empty(t, Compare(want, have, Everything, roles))
	require.True(t, Diff(want, have, Everything, roles).Empty())
	require.Equal(t, "45s", w.value(t, "current_setting('statement_timeout')"))

	w.exec(t, "RESET ROLE; RESET ALL")
	require.Equal(t, "German, DMY", w.value(t, "current_setting('DateStyle')"), "start-up settings are what RESET goes back to")
	require.Equal(t, `a b\c`, w.value(t, "current_setting('app.start')"))
	require.Equal(t, "shop", w.value(t, "current_setting('application_name')"))
	require.Equal(t, "LATIN1", w.value(t, "current_setting('client_encoding')"))
	require.Equal(t, "45s", w.value(t, "current_setting('statement_timeout')"))
}

func TestDifferenceTakesBackWhatIsGone(t *testing.T) {
	t.Parallel()
	source, target := databases(t)
	setup := []string{
		"SET work_mem = '9MB'", "SET app.gone = 'x'", "SET app.kept = 'y'", "PREPARE gone AS SELECT 1", "PREPARE changed AS SELECT 1",
		"LISTEN gone", "LISTEN kept", "SELECT pg_advisory_lock(1), pg_advisory_lock(2)",
	}
	names := []string{"app.gone", "app.kept"}
	w := connect(t, target, nil, setup...)
	s := connect(t, source, nil, append(setup,
		"RESET work_mem", "RESET app.gone", "SET app.kept = 'z'", "DEALLOCATE gone", "DEALLOCATE changed", "PREPARE changed AS SELECT 2",
		"UNLISTEN gone", "SELECT pg_advisory_unlock(1)", "SET jit = off")...)
	want, have := s.capture(t, names...), w.capture(t, names...)
	roles := mapRole(source, target)

	release, rest := Diff(want, have, Everything, roles).Released()
	require.NoError(t, w.Replay(within(t), release))
	mid := w.capture(t, names...)
	require.Len(t, mid.Locks, 1)
	require.Len(t, mid.Channels, 1)
	require.NoError(t, w.Replay(within(t), rest))
	require.Empty(t, Compare(want, w.capture(t, names...), Everything, roles))
}

func TestRefusedStepIsNamed(t *testing.T) {
	t.Parallel()
	source, target := databases(t)
	both(t, source, target, "CREATE TABLE public.a (id int)")
	pgtest.Exec(t, pgtest.Conn(t, source), "CREATE TABLE public.only_here (id int)")
	pgtest.Exec(t, pgtest.Conn(t, source), "CREATE TYPE public.only_type AS ENUM ('x')")
	for _, c := range []struct{ setup, step string }{
		{"PREPARE ok AS SELECT * FROM public.a; PREPARE bad AS SELECT * FROM public.only_here", `prepared statement "bad"`},
		{"SET app.secret = 'geheim'; SET ROLE pg_monitor", "setting role"},
		{"SELECT pg_advisory_lock(7)", "take advisory lock"},
	} {
		holder := connect(t, target, nil, "SELECT pg_advisory_lock(7)")
		s, w := connect(t, source, nil, c.setup), connect(t, target, nil)
		want, have := s.capture(t, "app.secret"), w.capture(t, "app.secret")
		plan := Diff(want, have, Everything, func(r string) string {
			if r == "pg_monitor" {
				return "no_such_role"
			}
			return r
		})
		err := w.Replay(within(t), plan)
		var step *StepError
		require.ErrorAs(t, err, &step)
		require.Equal(t, c.step, step.Step)
		require.NotContains(t, err.Error(), "geheim")
		require.NoError(t, w.Broken(), "a refusal leaves the link usable")
		w.capture(t)
		closeServer(holder.Conn())
	}

	s, w := connect(t, source, nil), connect(t, target, nil)
	s.parse("named", Statement{Name: "typed", Text: "SELECT $1::public.only_type"}, nil, nil)
	require.NoError(t, s.Flush(within(t)))
	err := w.Replay(within(t), Diff(s.capture(t), w.capture(t), Own, nil))
	require.ErrorContains(t, err, "public.only_type does not exist")
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	source, _ := databases(t)
	for _, c := range []struct {
		setup   string
		verdict Verdict
		code    string
	}{
		{"SELECT 1", Green, ""},
		{"CREATE TEMP TABLE x (id int)", Hold, "temp_objects"},
		{"CREATE TEMP TABLE x (id int); DROP TABLE x", Green, ""},
		{"CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", Hold, "temp_objects"},
		{"DECLARE c CURSOR WITH HOLD FOR SELECT 1", Hold, "held_cursors"},
		{"DECLARE c CURSOR WITH HOLD FOR SELECT 1; CLOSE c", Green, ""},
		{"SELECT pg_advisory_lock(1)", Amber, "advisory_locks"},
		{"DO $$ BEGIN EXECUTE 'PREPARE p AS SELECT 1'; END $$", Green, ""},
		{"PREPARE p AS SELECT 1; DEALLOCATE p; PREPARE p AS SELECT 2", Hold, "prepared_statement"},
	} {
		s := connect(t, source, nil, c.setup)
		verdict, reasons := s.capture(t).Judge()
		require.Equal(t, c.verdict, verdict, "%s: %v", c.setup, reasons)
		if c.code != "" {
			require.Equal(t, c.code, reasons[0].Code)
		}
		closeServer(s.Conn())
	}
	super := connect(t, pgtest.Shared(t, pgtest.Source).AdminDSN("postgres"), nil, "SET SESSION AUTHORIZATION "+source.User())
	verdict, _ := super.capture(t).Judge()
	require.Equal(t, Red, verdict)

	s := connect(t, source, nil)
	opaque, err := s.Capture(within(t), CaptureSpec{Login: source.User(), Opaque: "set_config with a name that is bound"})
	require.NoError(t, err)
	verdict, _ = opaque.Judge()
	require.Equal(t, Red, verdict)
}

func TestCaptureOfAHostileSession(t *testing.T) {
	t.Parallel()
	source, _ := databases(t)
	s := connect(t, source, nil,
		"CREATE SCHEMA trap",
		"CREATE FUNCTION trap.evil(text, text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$",
		"CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.evil)",
		"CREATE FUNCTION trap.current_setting(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$",
		"CREATE TABLE trap.pg_settings (name text)", "CREATE TYPE trap.text AS ENUM ('x')", "CREATE TYPE trap.bytea AS ENUM ('x')",
		"SET search_path = trap, pg_catalog", "SET standard_conforming_strings = off", "SET client_encoding = 'LATIN1'",
		"SET default_transaction_isolation = serializable", "SET bytea_output = escape",
	)
	st := s.capture(t, `a"b\c.{x,y}`, "app.x")
	require.Equal(t, "trap, pg_catalog", st.Settings["search_path"].Value)
	require.Equal(t, "none", st.Role)
	s.exec(t, "RESET search_path")
	require.Equal(t, s.value(t, "pg_backend_pid()"), itoa(st.BackendPID))
}

func TestCatalogNames(t *testing.T) {
	t.Parallel()
	source, _ := databases(t)
	conn := pgtest.Conn(t, source)
	for _, sql := range []string{
		"CREATE TABLE public.docs (tenant text DEFAULT current_setting('app.by_default', true), CHECK (tenant <> current_setting('app.by_check', true)))",
		"ALTER TABLE public.docs ENABLE ROW LEVEL SECURITY",
		"CREATE POLICY p ON public.docs USING (tenant = current_setting('app.by_policy', true)) WITH CHECK (tenant = current_setting('App.By_Check2'))",
		"CREATE FUNCTION public.f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.by_function', '1', false); EXECUTE 'SET app.by_dynamic = 1'; END $$",
		"CREATE VIEW public.v AS SELECT current_setting('app.by_view') AS x",
	} {
		pgtest.Exec(t, conn, sql)
	}
	super := admin(t, pgtest.Source, source.Database())
	pgtest.Exec(t, super, "ALTER ROLE "+source.User()+" SET app.by_role = '1'")
	pgtest.Exec(t, super, "CREATE FUNCTION public.g() RETURNS int LANGUAGE sql SET app.by_clause = 'x' AS 'SELECT 1'")
	catalog, err := connect(t, source, nil).ReadCatalog(within(t))
	require.NoError(t, err)
	for _, n := range []string{"default", "check", "policy", "check2", "function", "dynamic", "view", "role", "clause"} {
		require.Contains(t, catalog.Names, "app.by_"+n)
	}
}
