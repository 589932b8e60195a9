package preflight

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// Each is told once in the whole list, and its statement leaves nothing.
func TestExpressionsAreToldOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.Source, `CREATE SCHEMA app; ALTER DATABASE `+f.SourceDSN.Database()+` SET search_path = app, public; SET search_path = app, public;
		CREATE TABLE kinds (kind text PRIMARY KEY, factor int); INSERT INTO kinds VALUES ('a', 2);
		CREATE FUNCTION plus(a int, b int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT a + b';
		CREATE FUNCTION twice(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN plus(n, n); END $$;
		CREATE FUNCTION factor(k text) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT factor FROM app.kinds WHERE kind = k $$;
		CREATE TABLE nums (id int PRIMARY KEY); INSERT INTO nums SELECT g FROM generate_series(1, 20) g`)
	made := func(sql string) func(*testing.T) { return func(t *testing.T) { pgtest.Exec(t, f.Source, sql) } }
	typed := func(t *testing.T, found ...answer.Finding) {
		for _, x := range found {
			require.Contains(t, x.Remedy, x.SQL)
			pgtest.Exec(t, f.Source, x.SQL)
		}
	}
	f.removes(t, situation{code: "function_search_path", arise: made("CREATE INDEX i ON app.nums (app.twice(id)); ALTER DATABASE " + f.SourceDSN.Database() + " RESET search_path"), typed: typed})
	f.removes(t, situation{code: "expression_reads_tables", arise: made("CREATE TABLE app.made (id int PRIMARY KEY, kind text, n int GENERATED ALWAYS AS (app.factor(kind)) STORED); INSERT INTO app.made VALUES (1, 'a')"), typed: typed})
}
