package neonlike_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/neonlike"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// start returns a project, closed at the end of the test.
func start(t *testing.T, logical bool) *neonlike.Project {
	t.Helper()
	p, err := neonlike.Start(context.Background(), logical, neonlike.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// one is the project that tests share; its compute decodes logically.
var one struct {
	once sync.Once
	p    *neonlike.Project
	err  error
}

// shared returns the project that tests share. They must not harm it.
func shared(t *testing.T) *neonlike.Project {
	t.Helper()
	one.once.Do(func() { one.p, one.err = neonlike.Start(context.Background(), true, neonlike.Options{}) })
	require.NoError(t, one.err)
	return one.p
}

func closeShared() error {
	if one.p == nil {
		return nil
	}
	return one.p.Close()
}

func TestOwnerMayDoWhatNeonAllowsAndNoMore(t *testing.T) {
	t.Parallel()
	dsn := shared(t).Owner
	require.Equal(t, "neondb_owner", dsn.User())
	require.Equal(t, "neondb", dsn.Database())
	conn := pgtest.Conn(t, dsn)
	pgtest.Exec(t, conn, `
		CREATE TABLE parent (id int PRIMARY KEY);
		CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent);
		CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE TRIGGER mine AFTER INSERT ON child FOR EACH ROW EXECUTE FUNCTION nothing()`)

	for _, sql := range []string{
		"SET session_replication_role = replica",
		"SELECT pg_replication_origin_create('x')",
		"ALTER TABLE child DISABLE TRIGGER ALL",
		"ALTER SYSTEM SET work_mem = '1MB'",
		"CHECKPOINT",
		"COPY child TO '/tmp/x'",
		"SELECT pg_read_file('/etc/hostname')",
		"CREATE ROLE boss SUPERUSER",
		"GRANT cloud_admin TO neondb_owner",
		"SET ROLE cloud_admin",
		"CREATE PUBLICATION everything FOR ALL TABLES", // plain PostgreSQL; Neon allows it
	} {
		_, err := conn.Exec(context.Background(), sql)
		require.Equal(t, pg.CodeInsufficientPrivilege, pg.Code(err), "%s: %v", sql, err)
	}
	for _, sql := range []string{
		"ALTER TABLE child DISABLE TRIGGER USER",
		"CREATE SCHEMA crossfade CREATE TABLE progress (lane int PRIMARY KEY)",
		"CREATE EXTENSION pg_trgm",
		"CREATE EXTENSION pg_stat_statements",
		"CREATE EXTENSION postgres_fdw",
		"CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw",
		"SELECT dict.count FROM (SELECT count(*) FROM ts_lexize('english_stem', 'stars')) dict",
		"CREATE PUBLICATION listed FOR TABLE parent, child",
		"SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
		"SELECT pg_drop_replication_slot('s')",
		"SELECT rolpassword FROM pg_authid WHERE rolname = 'neondb_owner'",
		"CREATE ROLE app LOGIN PASSWORD 'secret words of an application'",
		"SELECT count(*) FROM pg_stat_activity",
	} {
		pgtest.Exec(t, conn, sql)
	}
	for sql, code := range map[string]string{
		"CREATE TABLESPACE fast LOCATION '/tmp'":                               pg.CodeFeatureNotSupported,
		"CREATE ROLE carried LOGIN PASSWORD 'SCRAM-SHA-256$4096:c2FsdA==$a:b'": pg.CodeInternal,
		"ALTER ROLE app PASSWORD 'short'":                                      pg.CodeInternal,
	} {
		_, err := conn.Exec(context.Background(), sql)
		require.Equal(t, code, pg.Code(err), "%s: %v", sql, err)
		_, err = conn.PgConn().Exec(context.Background(), "SELECT 1; "+sql).ReadAll()
		require.Equal(t, code, pg.Code(err), "%s: %v", sql, err)
	}
	require.Equal(t, "CREATE TABLESPACE is here", pgtest.Value(t, conn, "SELECT 'CREATE TABLESPACE is here'"), "a value is no statement")
	repl, err := pg.ConnectReplication(context.Background(), dsn)
	require.NoError(t, err, "REPLICATION is the role's own attribute")
	require.NoError(t, repl.Close(context.Background()))
}

func TestClusterLooksLikeACompute(t *testing.T) {
	t.Parallel()
	dsn := start(t, false).Owner
	conn := pgtest.Conn(t, dsn)
	for name, want := range map[string]string{
		"wal_level":             "replica",
		"max_connections":       "104",
		"max_replication_slots": "10",
		"server_encoding":       "UTF8",
		"lc_ctype":              "C.UTF-8",
	} {
		got := pgtest.Value(t, conn, "SELECT setting FROM pg_settings WHERE name = $1", name)
		if name == "lc_ctype" && got == "" { // no setting since PostgreSQL 16
			got = pgtest.Value(t, conn, "SELECT datctype FROM pg_database WHERE datname = current_database()")
		}
		require.Equal(t, want, got, name)
	}
	require.Equal(t, "ep-local-likeness-000001", pgtest.Value(t, conn, "SELECT current_setting('neon.endpoint_id', true)"))
	require.Equal(t, "false", pgtest.Value(t, conn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))
	require.Equal(t, "neondb_owner", pgtest.Value(t, conn, "SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'public'"))
}

func TestPrepareMakesSeveralDatabasesInOneCluster(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t, pgtest.Target)
	type made struct {
		dsn pg.DSN
		err error
	}
	names := []string{"one", "two"}
	results := make(chan made, len(names))
	for _, name := range names {
		go func() {
			dsn, err := neonlike.Prepare(context.Background(), c, neonlike.Options{Owner: name + "_owner", Database: name, Password: "quo'te \\ " + name})
			results <- made{dsn, err}
		}()
	}
	for range names {
		m := <-results
		require.NoError(t, m.err)
		conn := pgtest.Conn(t, m.dsn)
		require.Equal(t, m.dsn.Database()+"_owner", pgtest.Value(t, conn, "SELECT current_user"))
	}

	_, err := neonlike.Prepare(context.Background(), c, neonlike.Options{Owner: "one_owner", Database: "three", Password: "hunter2"})
	require.Equal(t, pg.CodeDuplicateObject, pg.Code(err))
	require.NotContains(t, err.Error(), "hunter2")
}
