package fingerprint_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/fingerprint"
	"crossfade/schema/pairtest"
)

// What is no definition leaves the digest of definitions as it was; everything that
// is one changes it, taken back or not.
func TestDigestSeesDefinitionsAndNothingElse(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	p.LoadObjects(t)
	conn := pgtest.Conn(t, p.Admin)
	take := func() fingerprint.Digest {
		t.Helper()
		d, err := fingerprint.TakeDigest(t.Context(), conn)
		require.NoError(t, err)
		return d
	}
	take()
	for _, sql := range []string{
		"CREATE TEMP TABLE passing (id int PRIMARY KEY, v text DEFAULT 'x' CHECK (v <> ''))", "CREATE TEMP VIEW seen AS SELECT * FROM passing", "DROP TABLE passing CASCADE",
		"ANALYZE app.customer", "VACUUM app.customer", "INSERT INTO app.audit VALUES ('x')", "SELECT nextval('app.odd_seq')", "REFRESH MATERIALIZED VIEW app.z_first",
		"CREATE SCHEMA crossfade; CREATE FUNCTION crossfade.fence() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
		"CREATE TRIGGER zz_crossfade_fence BEFORE INSERT ON app.audit FOR EACH STATEMENT EXECUTE FUNCTION crossfade.fence()",
		"ALTER TABLE app.audit ENABLE ALWAYS TRIGGER zz_crossfade_fence", "DROP SCHEMA crossfade CASCADE", "CREATE PUBLICATION theirs FOR TABLE app.audit", "SELECT lo_create(0)",
	} {
		before := take()
		pgtest.Exec(t, conn, sql)
		require.Empty(t, before.Changed(take()), sql)
	}
	for _, sql := range []string{"TRUNCATE app.audit", "VACUUM FULL app.loose", "CLUSTER app.customer"} {
		before := take()
		pgtest.Exec(t, conn, sql)
		after := take()
		require.Equal(t, before.Definitions, after.Definitions, sql)
		require.NotEqual(t, before.Storage, after.Storage, sql)
	}
	for _, sql := range []string{
		"ALTER TABLE app.loose DISABLE ROW LEVEL SECURITY", "ALTER TABLE app.loose NO FORCE ROW LEVEL SECURITY", "REVOKE SELECT ON app.audit FROM " + p.Reader, "ALTER TABLE app.customer DISABLE TRIGGER touch",
		"ALTER TABLE app.customer RENAME COLUMN name TO n; ALTER TABLE app.customer RENAME COLUMN n TO name", "ALTER TABLE app.customer ALTER COLUMN seen SET STATISTICS 7",
		"ALTER TABLE app.customer SET (toast.autovacuum_enabled = off)", "COMMENT ON TABLE app.audit IS 'x'", "COMMENT ON DATABASE " + p.Source.Database() + " IS 'x'",
		"ALTER DATABASE " + p.Source.Database() + " SET work_mem = '5MB'", "ALTER ROLE " + p.Source.User() + " IN DATABASE " + p.Source.Database() + " SET work_mem = '6MB'",
		"GRANT CONNECT ON DATABASE " + p.Source.Database() + " TO " + p.Reader, "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC", "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() FROM pg_monitor",
		"ALTER SEQUENCE app.odd_seq OWNED BY app.audit.line", "ALTER SEQUENCE app.odd_seq OWNED BY NONE", "ALTER TYPE app.mood ADD VALUE 'odd'", "ALTER TABLE app.audit OWNER TO postgres",
		"CREATE FUNCTION app.told() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'", "CREATE EVENT TRIGGER told_" + p.Source.Database() + " ON sql_drop EXECUTE FUNCTION app.told()",
		"CREATE FOREIGN DATA WRAPPER fw", "CREATE SERVER fs FOREIGN DATA WRAPPER fw", "CREATE USER MAPPING FOR " + p.Reader + " SERVER fs OPTIONS (user 'a')",
		"ALTER USER MAPPING FOR " + p.Reader + " SERVER fs OPTIONS (SET user 'b')", "CREATE EXTENSION lo SCHEMA app", "ALTER EXTENSION lo DROP FUNCTION app.lo_oid(app.lo)",
		"ALTER FUNCTION app.told() DEPENDS ON EXTENSION lo", "CREATE TEXT SEARCH CONFIGURATION app.more (COPY = pg_catalog.simple)", "ALTER TEXT SEARCH CONFIGURATION app.more DROP MAPPING FOR email",
		"ALTER ROLE " + p.Reader + " RENAME TO x" + p.Reader, "ALTER ROLE x" + p.Reader + " RENAME TO " + p.Reader,
	} {
		before := take()
		pgtest.Exec(t, conn, sql)
		require.NotEmpty(t, before.Changed(take()), sql)
	}
	for _, sql := range []string{"ALTER ROLE " + p.Reader + " CONNECTION LIMIT 5", "GRANT " + p.Source.User() + " TO " + p.Reader, "ALTER ROLE " + p.Reader + " SET work_mem = '9MB'", "ALTER ROLE " + p.Reader + " BYPASSRLS"} {
		before := take()
		pgtest.Exec(t, conn, sql)
		require.NotEqual(t, before.Roles, take().Roles, sql)
	}
	pgtest.Exec(t, conn, "REVOKE "+p.Source.User()+" FROM "+p.Reader)

	best := time.Hour
	for range 5 {
		begin := time.Now()
		take()
		best = min(best, time.Since(begin))
	}
	t.Logf("digest: %s", best)
	require.Less(t, best, time.Second, "it runs while clients wait")
}
