package expression

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// functions are some that find what they use by way of the database's search_path.
func functions(t *testing.T, f *preflighttest.Fixture) {
	t.Helper()
	pgtest.Exec(t, f.Source, `CREATE SCHEMA app; ALTER DATABASE `+f.SourceDSN.Database()+` SET search_path = app, public; SET search_path = app, public;
		CREATE TABLE kinds (kind text PRIMARY KEY, factor int); INSERT INTO kinds VALUES ('a', 2), ('b', 3);
		CREATE FUNCTION plus(a int, b int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT a + b';
		CREATE FUNCTION twice(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN plus(n, n); END $$;
		CREATE FUNCTION plus2(a int, b int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN plus(a, b); END $$;
		CREATE FUNCTION quiet(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN plus(n, n); EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$;
		CREATE FUNCTION whole(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN n + 1; END $$;
		CREATE FUNCTION thrice(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT plus(plus(n, n), n)';
		CREATE FUNCTION factor(k text) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT factor FROM app.kinds WHERE kind = k $$;
		CREATE FUNCTION known(k text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN EXISTS (SELECT FROM app.kinds WHERE kind = k); END $$;
		CREATE TABLE nums (id int PRIMARY KEY, kind text CHECK (known(kind))); INSERT INTO nums SELECT g, 'a' FROM generate_series(1, 20) g`)
}

// What PostgreSQL 17 evaluates under a search_path of its own is named once for each function,
// and the statement removes it; what finds its names all the same is not.
func TestFunctionsThatATargetOfPostgreSQL17DoesNotFindNamesIn(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ name, sql, function string }{
		{"index", "CREATE INDEX i ON nums (whole(id), twice(id))", "app.twice(integer)"},
		{"predicate", "CREATE INDEX i ON nums (id) WHERE twice(id) > whole(2)", "app.twice(integer)"},
		{"inlined", "CREATE INDEX i ON nums (thrice(id))", "app.thrice(integer)"},
		{"another value", "CREATE INDEX i ON nums (quiet(id))", "app.quiet(integer)"},
		{"operator", "CREATE OPERATOR @@@ (PROCEDURE = plus2, LEFTARG = int, RIGHTARG = int); CREATE INDEX i ON nums ((id @@@ 1))", "app.plus2(integer,integer)"},
		{"exclusion", "ALTER TABLE nums ADD CONSTRAINT apart EXCLUDE USING btree (twice(id) WITH =)", "app.twice(integer)"},
		{"statistics", "CREATE STATISTICS st ON (twice(id)), id FROM nums", "app.twice(integer)"},
		{"view", "CREATE MATERIALIZED VIEW seen AS SELECT twice(id) FROM nums", "app.twice(integer)"},
		{"view of a view", "CREATE VIEW below AS SELECT twice(id) FROM nums; CREATE MATERIALIZED VIEW seen AS SELECT * FROM below", "app.twice(integer)"},
		{"partitioned", "CREATE TABLE parts (id int) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parts DEFAULT; INSERT INTO parts VALUES (1); CREATE INDEX i ON parts (twice(id))", "app.twice(integer)"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			f := preflighttest.New(t)
			functions(t, f)
			require.Empty(t, f.Ask(t, Try))
			pgtest.Exec(t, f.Source, x.sql)
			require.Empty(t, f.Ask(t, Try), "a target of an older version finds the names")
			found, err := tryFor(t.Context(), f.Pair(t), 170000)
			require.NoError(t, err)
			require.Equal(t, []preflighttest.Seen{{answer.Blocker, "function_search_path", x.function}}, preflighttest.Short(found))
			require.Contains(t, found[0].SQL, "SET search_path = app, public")
			f.Typed(t, found...)
			found, err = tryFor(t.Context(), f.Pair(t), 170000)
			require.NoError(t, err)
			require.Empty(t, found)
		})
	}
}

// A function that finds its names under the path of an application's role only is named with
// a path under which it does.
func TestFunctionsThatTheSourcesRoleDoesNotFindNamesIn(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ name, sql string }{
		{"generated column", "CREATE TABLE made (id int PRIMARY KEY, d int GENERATED ALWAYS AS (twice(id)) STORED); INSERT INTO made VALUES (1)"},
		{"constraint", "ALTER TABLE nums ADD CONSTRAINT c CHECK (twice(id) > 1)"},
		{"domain", "CREATE DOMAIN even AS int CHECK (twice(VALUE) > 0); CREATE TABLE evens (e even); INSERT INTO evens VALUES (2)"},
		{"partition key", "CREATE TABLE parts (id int) PARTITION BY RANGE (twice(id)); CREATE TABLE part PARTITION OF parts DEFAULT; INSERT INTO parts VALUES (1)"},
		{"index", "CREATE INDEX i ON nums (twice(id))"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			f := preflighttest.New(t)
			functions(t, f)
			pgtest.Exec(t, f.Source, x.sql)
			require.Empty(t, f.Ask(t, Try))
			pgtest.Exec(t, f.Source, "ALTER DATABASE "+f.SourceDSN.Database()+" RESET search_path")
			found := f.Ask(t, Try)
			require.Equal(t, []preflighttest.Seen{{answer.Blocker, "function_search_path", "app.twice(integer)"}}, preflighttest.Short(found))
			require.Equal(t, answer.Warning, f.Ask(t, Try, preflighttest.CopyMode)[0].Severity)
			f.Typed(t, found...)
			require.Empty(t, f.Ask(t, Try))
		})
	}
}

// What is evaluated as rows come, in any order, and reads other tables is named; the statement
// makes what does not, with the same values for new rows.
func TestExpressionsThatReadOtherTablesAreNamed(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	functions(t, f)
	pgtest.Exec(t, f.Source, `CREATE TABLE "Made" (id int PRIMARY KEY, kind text, own int GENERATED ALWAYS AS (whole(id)) STORED, "By" int GENERATED ALWAYS AS (factor(kind) * id) STORED); INSERT INTO "Made" VALUES (1, 'a')`)
	found := f.Ask(t, Try)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "expression_reads_tables", `app."Made"."By"`}}, preflighttest.Short(found))
	require.Contains(t, found[0].Detail, "app.kinds")
	f.Typed(t, found...)
	require.Empty(t, f.Ask(t, Try))
	pgtest.Exec(t, f.Source, `INSERT INTO "Made" (id, kind) VALUES (2, 'b'); UPDATE "Made" SET kind = 'b' WHERE id = 1`)
	require.Equal(t, "3,6", pgtest.Value(t, f.Source, `SELECT string_agg("By"::text, ',' ORDER BY id) FROM "Made"`))

	pgtest.Exec(t, f.Source, `CREATE TABLE parts (id int, kind text) PARTITION BY RANGE (factor(kind)); CREATE TABLE part PARTITION OF parts DEFAULT; INSERT INTO parts VALUES (1, 'a')`)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "expression_reads_tables", "app.parts"}}, preflighttest.Short(f.Ask(t, Try)))
	pgtest.Exec(t, f.Source, `DROP TABLE parts; CREATE INDEX i ON nums (factor(kind))`)
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "expression_reads_tables", "app.i"}}, preflighttest.Short(f.Ask(t, Try)))
	require.Empty(t, f.Ask(t, Try, preflighttest.CopyMode), "a copy makes it when all rows are there")
}

// The constraint of a domain that is a part of other types cannot be asked later.
func TestConstraintsOfNestedDomainsThatReadOtherTablesAreNamed(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"composite": "CREATE TYPE pair AS (k kind, n int); CREATE TABLE held (v pair); INSERT INTO held VALUES (ROW('a', 1))",
		"array":     "CREATE TABLE held (v kind[]); INSERT INTO held VALUES ('{a,b}')",
		"range":     `CREATE TYPE span AS RANGE (subtype = kind); CREATE TABLE held (v span); INSERT INTO held VALUES ('[a,b]')`,
		"domain":    "CREATE DOMAIN closer AS kind; CREATE TABLE held (v closer[]); INSERT INTO held VALUES ('{a}')",
		"row":       "CREATE TABLE inside (k kind); CREATE TABLE held (v inside); INSERT INTO held VALUES (ROW('a'))",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := preflighttest.New(t)
			functions(t, f)
			pgtest.Exec(t, f.Source, `CREATE DOMAIN kind AS text CONSTRAINT "Known" CHECK (known(VALUE)) CONSTRAINT plain CHECK (whole(length(VALUE)) > 0); CREATE TABLE plain (k kind); INSERT INTO plain VALUES ('a')`)
			require.Empty(t, f.Ask(t, Try), "it is asked when all rows are there")
			pgtest.Exec(t, f.Source, sql)
			found := f.Ask(t, Try)
			require.Equal(t, []preflighttest.Seen{{answer.Blocker, "expression_reads_tables", `app.kind "Known"`}}, preflighttest.Short(found))
			f.Typed(t, found...)
			require.Empty(t, f.Ask(t, Try))
		})
	}
}

// What cannot be tried on the source is no blocker, and is named with the source's words.
func TestAnExpressionThatCannotBeTriedIsNamed(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	functions(t, f)
	pgtest.Exec(t, f.Source, `CREATE FUNCTION cleans() RETURNS int LANGUAGE sql AS 'DELETE FROM app.kinds WHERE kind = ''none''; SELECT 1';
		CREATE FUNCTION writes(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN n * app.cleans(); END $$;
		CREATE TABLE logged (id int PRIMARY KEY, n int GENERATED ALWAYS AS (writes(id)) STORED); INSERT INTO logged VALUES (1)`)
	found := f.Ask(t, Try)
	require.Equal(t, []preflighttest.Seen{{answer.Info, "expression_not_tried", "generated column app.logged.n"}}, preflighttest.Short(found))
	require.Contains(t, found[0].Detail, "DELETE")
	pgtest.Exec(t, f.Source, "CREATE OR REPLACE FUNCTION app.writes(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT n'")
	require.Empty(t, f.Ask(t, Try))
}

// What another role has written gets no rights of the check's role: it is not executed, and named.
func TestFunctionsOfOtherRolesAreNotExecuted(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	functions(t, f)
	f.SourceDSN, f.Source = pgtest.Shared(t, pgtest.Source).AdminDSN(f.SourceDSN.Database()), nil
	owner := pgtest.Value(t, f.SourceAdmin, "SELECT tableowner FROM pg_tables WHERE schemaname = 'app' AND tablename = 'nums'")
	pgtest.Exec(t, f.SourceAdmin, "SET ROLE "+owner)
	pgtest.Exec(t, f.SourceAdmin, `ALTER TABLE app.nums DROP CONSTRAINT nums_kind_check;
		CREATE FUNCTION app.tells(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN n; END';
		CREATE TABLE app.bait (id int PRIMARY KEY CHECK (app.tells(id) = id)); INSERT INTO app.bait VALUES (1);
		CREATE DOMAIN app.lure AS int CHECK (app.tells(VALUE) > 0); CREATE TABLE app.hooks (id int PRIMARY KEY, v app.lure); INSERT INTO app.hooks VALUES (1, 1);
		CREATE OR REPLACE FUNCTION app.tells(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'executed by %', current_user; END $$`)
	pgtest.Exec(t, f.SourceAdmin, "RESET ROLE")
	found := f.Ask(t, Try)
	require.Equal(t, []preflighttest.Seen{{answer.Info, "expression_not_tried", "constraint bait_id_check of table app.bait"}}, preflighttest.Short(found))
	require.Contains(t, found[0].Detail, "belongs to role "+owner)
	require.Contains(t, found[0].Detail, "so it is with 1 other", "the domain")

	pgtest.Exec(t, f.SourceAdmin, "ALTER TABLE app.bait OWNER TO CURRENT_USER; ALTER DOMAIN app.lure OWNER TO CURRENT_USER")
	found = f.Ask(t, Try)
	require.Contains(t, found[0].Detail, "executed by "+f.SourceDSN.User(), "its own are tried")
	require.Contains(t, found[0].Detail, "so it is with 1 other", "the domain, too")
}
