package e2e_test

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// manyChunks has the larger table of expressive copied in several reads, each of which the server plans.
const manyChunks = 64 << 10

// expressive fills the source with expressions over rows that call functions: those read
// other tables, or have names that are found by way of the database's search_path.
func (s *sides) expressive(t *testing.T) {
	t.Helper()
	source := pgtest.Conn(t, s.source)
	pgtest.Exec(t, source, `CREATE SCHEMA app; ALTER DATABASE `+s.source.Database()+` SET search_path = app, public; SET search_path = app, public;
		CREATE TABLE zz_kinds (kind text PRIMARY KEY, factor int); INSERT INTO zz_kinds VALUES ('a', 2), ('b', 3);
		CREATE FUNCTION factor(k text) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT factor FROM zz_kinds WHERE kind = k $$;
		CREATE FUNCTION known(k text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN EXISTS (SELECT FROM zz_kinds WHERE kind = k); END $$;
		CREATE FUNCTION twice(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN plus(n, n); END $$;
		CREATE FUNCTION plus(a int, b int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT a + b';
		CREATE DOMAIN kind AS text CONSTRAINT k_known CHECK (known(VALUE));
		CREATE DOMAIN short AS text;
		CREATE TABLE checked (id int PRIMARY KEY, kind text CONSTRAINT c_known CHECK (known(kind)), at timestamptz DEFAULT now() CONSTRAINT c_past CHECK (at <= now()), CONSTRAINT c_id CHECK (id > 0));
		COMMENT ON CONSTRAINT c_known ON checked IS 'known';
		CREATE TABLE domained (id int PRIMARY KEY, k kind, s short, n int);
		CREATE TABLE made (id int PRIMARY KEY, doubled int GENERATED ALWAYS AS (twice(id)) STORED);
		CREATE TABLE indexed (id int PRIMARY KEY, kind text); CREATE INDEX i_factor ON indexed (factor(kind)); CREATE INDEX i_twice ON indexed (twice(id)) WHERE twice(id) > 2;
		CREATE TABLE parts (id int, kind text CONSTRAINT p_known CHECK (known(kind)), PRIMARY KEY (id)) PARTITION BY RANGE (id);
		CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (1) TO (100); CREATE TABLE heir (more int, PRIMARY KEY (id)) INHERITS (checked);
		CREATE MATERIALIZED VIEW seen AS SELECT id, twice(id) AS d, factor(kind) AS f FROM indexed;
		INSERT INTO checked SELECT n, 'a' FROM generate_series(1, 50) n; INSERT INTO heir VALUES (51, 'b', now(), 1); INSERT INTO domained SELECT n, 'b', 'much too long', n FROM generate_series(1, 50) n;
		INSERT INTO made SELECT generate_series(1, 50); INSERT INTO indexed SELECT n, 'b' FROM generate_series(1, 20000) n; INSERT INTO parts SELECT n, 'a' FROM generate_series(1, 50) n;
		REFRESH MATERIALIZED VIEW seen; ALTER DOMAIN short ADD CONSTRAINT s_short CHECK (length(VALUE) < 5) NOT VALID`)
}

// function is one that does not find its names on the target.
type function struct{ Code, Object, SQL, On string }

// pathless are those that check names.
func (s *sides) pathless(t *testing.T, args ...string) (all []function) {
	t.Helper()
	out, _ := s.say(t, nil, append([]string{"check", "--json"}, args...)...)
	var found struct{ Blockers, Warnings []function }
	require.NoError(t, json.Unmarshal([]byte(out), &found), out)
	for _, f := range append(found.Blockers, found.Warnings...) {
		if f.Code == "function_search_path" {
			require.Equal(t, "source", f.On)
			all = append(all, f)
		}
	}
	return all
}

// requireExpressions compares what the sides have.
func (s *sides) requireExpressions(t *testing.T) {
	t.Helper()
	source, target := pgtest.Conn(t, s.source), pgtest.Conn(t, s.target)
	for _, sql := range []string{
		`SELECT string_agg(coalesce(nullif(conrelid, 0)::regclass::text, contypid::regtype::text) || ' ' || conname || ' ' || convalidated || conislocal || coninhcount || coalesce(obj_description(oid, 'pg_constraint'), ''), ', ' ORDER BY 1, conrelid::regclass::text, contypid::regtype::text, conname)
			FROM pg_constraint WHERE contype = 'c' AND connamespace = 'app'::regnamespace`,
		`SELECT string_agg(x::text, ' ' ORDER BY id) FROM app.made x`, `SELECT string_agg(x::text, ' ' ORDER BY id) FROM app.seen x`, `SELECT string_agg(x::text, ' ' ORDER BY id) FROM app.domained x`,
		`SELECT count(*) FROM app.checked`, `SELECT count(*) FROM app.parts`,
	} {
		pgtest.Exec(t, source, `SET search_path = app; SET enable_seqscan = off`)
		pgtest.Exec(t, target, `SET search_path = app; SET enable_seqscan = off`)
		require.Equal(t, pgtest.Value(t, source, sql), pgtest.Value(t, target, sql), sql)
	}
	for _, sql := range []string{`SELECT count(*) FROM app.indexed WHERE app.factor(kind) = 3`, `SELECT count(*) FROM app.indexed WHERE app.twice(id) = 4 AND app.twice(id) > 2`} {
		require.Equal(t, pgtest.Value(t, source, sql), pgtest.Value(t, target, sql), "by the index: %s", sql)
	}
	require.NotEqual(t, "0", pgtest.Value(t, target, `SELECT count(*) FROM pg_stats WHERE schemaname = 'app' AND tablename = 'i_factor'`), "the expression was analysed")
}

// A constraint is asked of the rows when all are there, and every expression finds what it
// finds on the source.
func TestExpressionsThatCallFunctionsAreCopied(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	s.expressive(t)
	out, code := s.say(t, nil, "copy")
	require.Equal(t, 0, code, out)
	s.requireExpressions(t)
	s.requireNothingLeft(t)
	require.Equal(t, "i_factor,i_twice,indexed", pgtest.Value(t, pgtest.Conn(t, s.target), `SELECT string_agg(DISTINCT tablename, ',' ORDER BY tablename) FROM pg_stats WHERE tablename IN ('indexed', 'i_factor', 'i_twice')`), "the planner has statistics")
}

func TestExpressionsThatCallFunctionsAreFollowedAndCutOver(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	s.expressive(t)
	p := newProcess(t, s, "--chunk-bytes="+strconv.Itoa(manyChunks))
	p.start()
	p.awaitFollowing()
	app := application(t, p, longestWait)
	// In another order than the target applies it: by table.
	pgtest.Exec(t, app, `BEGIN; INSERT INTO zz_kinds VALUES ('c', 5); INSERT INTO checked VALUES (100, 'c'); INSERT INTO domained VALUES (100, 'c', 'ok', 1); COMMIT;
		UPDATE domained SET n = n + 1 WHERE id = 1; INSERT INTO made VALUES (100); UPDATE made SET id = 101 WHERE id = 1; INSERT INTO indexed VALUES (30000, 'c'); INSERT INTO parts VALUES (99, 'c'); REFRESH MATERIALIZED VIEW seen`)
	p.await("it is ready", func(st control.Status) bool { return st.Ready })
	p.cutover()
	p.awaitWhole()
	target := pgtest.Conn(t, s.target)
	_, err := awaitRow(target, `SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE contype = 'c' AND NOT convalidated AND conname <> 's_short')`)
	require.NoError(t, err)
	s.requireExpressions(t)
	_, err = app.Exec(t.Context(), `INSERT INTO checked VALUES (200, 'unknown')`)
	require.ErrorContains(t, err, "c_known")
	p.finish()
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}

// A key of generated columns is in no change that is decoded: it is refused by name, and the
// remedy as it is printed has the table followed.
func TestATableWhoseKeyIsGeneratedIsFollowedByTheRemedy(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	owner := pgtest.Conn(t, s.source)
	pgtest.Exec(t, owner, `CREATE TABLE public.made_key (a int NOT NULL, v text, id int GENERATED ALWAYS AS (a * 2) STORED PRIMARY KEY); INSERT INTO public.made_key (a, v) SELECT g, 'x' FROM generate_series(1, 50) g`)
	p := newProcess(t, s)
	out, code := s.say(t, nil, "check", "--json")
	require.Equal(t, 1, code, out)
	var found struct {
		Blockers []struct{ Code, Remedy string }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &found), out)
	remedy := ""
	for _, f := range found.Blockers {
		if f.Code == "replica_identity_generated" {
			remedy = f.Remedy
		}
	}
	require.NotEmpty(t, remedy, out)
	pgtest.Exec(t, owner, remedy)
	p.start()
	p.awaitFollowing()
	app := application(t, p, longestWait)
	pgtest.Exec(t, app, `UPDATE public.made_key SET v = 'y' WHERE a < 10; UPDATE public.made_key SET a = 1000 WHERE a = 20; DELETE FROM public.made_key WHERE a > 40 AND a < 1000; INSERT INTO public.made_key (a, v) VALUES (77, 'new')`)
	p.await("it is ready", func(st control.Status) bool { return st.Ready })
	require.EqualValues(t, "switched", p.cutover().Outcome)
	p.awaitWhole()
	const sums = `SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM public.made_key t`
	require.Equal(t, pgtest.Value(t, owner, sums), pgtest.Value(t, pgtest.Conn(t, s.target), sums))
	p.finish()
	require.Equal(t, 0, p.stop())
}
