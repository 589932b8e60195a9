package journal_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// mover is a role other than the application's owner, which may make our schema and no more.
func mover(t *testing.T, c *pgcluster.Cluster, database pg.DSN) *pgx.Conn {
	t.Helper()
	name := "mover_" + database.User()
	admin := pgtest.Conn(t, c.AdminDSN(database.Database()))
	pgtest.Exec(t, admin, "CREATE ROLE "+name+" LOGIN PASSWORD 'pw'; GRANT CREATE, CONNECT ON DATABASE "+database.Database()+" TO "+name)
	t.Cleanup(func() { pgtest.DropRole(t, c, database.Database(), name) })
	return pgtest.Conn(t, database.WithUser(name, "pw"))
}

func dumped(t *testing.T, d pg.DSN) string {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	info, env := d.LibpqEnv()
	cmd := exec.CommandContext(t.Context(), b.Path("pg_dump"), "--dbname="+info)
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

// The nightly dump by the owner locks and reads every table there is.
func TestADumpByTheOwnerWorksNextToAMigratingRole(t *testing.T) {
	t.Parallel()
	c := pgtest.Shared(t, pgtest.Source)
	d := pgtest.Database(t, c)
	owner := pgtest.Conn(t, d)
	pgtest.Exec(t, owner, "CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t VALUES (1)")
	ours := mover(t, c, d)
	// What the database hands out by default is not handed out with our tables.
	pgtest.Exec(t, ours, "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO "+d.User())
	require.NoError(t, journal.InstallSource(t.Context(), ours, journal.SourceRun{RunID: "r1", Key: "the-run-key"}))
	_, err := journal.Take(t.Context(), ours, "a")
	require.NoError(t, err)
	out := dumped(t, d)
	require.Contains(t, out, "COPY crossfade.run")
	require.NotContains(t, out, "the-run-key")

	// Others read, and nothing else.
	tables := `pg_class c WHERE relnamespace = 'crossfade'::regnamespace AND relkind = 'r'`
	require.Equal(t, "true", pgtest.Value(t, owner, `SELECT bool_and(has_table_privilege(c.oid, 'SELECT')) FROM `+tables))
	require.Equal(t, "false", pgtest.Value(t, owner, `SELECT bool_or(has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')) FROM `+tables))
	require.Equal(t, "false false", pgtest.Value(t, owner, `SELECT has_schema_privilege('crossfade', 'CREATE') || ' ' || has_function_privilege('crossfade.fence()', 'EXECUTE')`))
	require.Equal(t, "0", pgtest.Value(t, owner, `SELECT count(*) FROM crossfade.run r WHERE r::text LIKE '%the-run-key%'`))

	// What can be read of the key does not pass the fence, and the key does.
	pgtest.Exec(t, ours, "CREATE SCHEMA own; CREATE TABLE own.t (id int); GRANT USAGE ON SCHEMA own TO "+d.User())
	require.NoError(t, journal.Transact(t.Context(), ours, lockTimeout, `CREATE TRIGGER `+journal.FenceTrigger+` BEFORE INSERT ON own.t FOR EACH STATEMENT EXECUTE FUNCTION crossfade.fence();`+journal.ShutFence))
	for _, key := range []string{"", "wrong", pgtest.Value(t, owner, `SELECT encode(key_digest, 'hex') FROM crossfade.run`), pgtest.Value(t, owner, `SELECT key_digest::text FROM crossfade.run`)} {
		pgtest.Exec(t, ours, "SET crossfade.key = "+pg.QuoteLiteral(key))
		_, err := ours.Exec(t.Context(), "INSERT INTO own.t VALUES (1)")
		require.True(t, pg.IsCode(err, pg.CodeReadOnlyTransaction), key)
	}
	pgtest.Exec(t, ours, "SET crossfade.key = 'the-run-key'; INSERT INTO own.t VALUES (1)")
	require.Contains(t, dumped(t, d), "COPY own.t", "after the fence is shut too")
}

// Objects of ours in the catalog explain themselves.
func TestWhatIsOursExplainsItself(t *testing.T) {
	t.Parallel()
	_, conn := source(t)
	require.NoError(t, journal.Lead(t.Context(), conn))
	require.Equal(t, "", pgtest.Value(t, conn, `SELECT string_agg(c.oid::regclass::text, ' ') FROM pg_class c
		WHERE relnamespace = 'crossfade'::regnamespace AND relkind = 'r' AND obj_description(c.oid, 'pg_class') IS NULL`))
	require.Contains(t, pgtest.Value(t, conn, `SELECT obj_description('crossfade.fence()'::regprocedure, 'pg_proc')`), "Crossfade")
	said := pgtest.Value(t, conn, `SELECT obj_description('crossfade'::regnamespace, 'pg_namespace')`)
	require.Contains(t, said, "crossfade clean")
	lock := pgtest.Value(t, conn, `SELECT 'classid ' || classid || ', objid ' || objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()`)
	require.Contains(t, said, lock, "the lock is named as pg_locks shows it")

	target := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Target)))
	require.NoError(t, journal.InstallTarget(t.Context(), target, journal.TargetRun{RunID: "r1", Key: "k1"}))
	require.Equal(t, said, pgtest.Value(t, target, `SELECT obj_description('crossfade'::regnamespace, 'pg_namespace')`))
	require.Equal(t, "0", pgtest.Value(t, target, `SELECT count(*) FROM pg_class c, aclexplode(relacl) a WHERE relnamespace = 'crossfade'::regnamespace AND a.grantee <> relowner`),
		"the target's tables have secrets")
}

// A subscriber of all tables gets ours too: with the statement of the check's remedy it goes on.
func TestSubscribersOfAllTablesGoOnWithOurTables(t *testing.T) {
	t.Parallel()
	c, other := pgtest.Own(t, pgtest.Source), pgtest.Shared(t, pgtest.Target)
	d, warehouse := pgtest.Database(t, c), pgtest.Database(t, other)
	conn, admin := pgtest.Conn(t, d), pgtest.Conn(t, c.AdminDSN(d.Database()))
	pgtest.Exec(t, conn, "CREATE TABLE public.t (id int PRIMARY KEY)")
	pgtest.Exec(t, admin, "CREATE PUBLICATION everything FOR ALL TABLES")
	there := pgtest.Conn(t, other.AdminDSN(warehouse.Database()))
	pgtest.Exec(t, there, "CREATE TABLE public.t (id int PRIMARY KEY); CREATE SCHEMA crossfade; "+journal.SourceTables)
	pgtest.Exec(t, there, fmt.Sprintf("CREATE SUBSCRIPTION all_of_it CONNECTION 'host=%s port=%d user=%s password=%s dbname=%s' PUBLICATION everything WITH (copy_data = false)",
		d.Host(), d.Port(), d.User(), d.Password(), d.Database()))
	t.Cleanup(func() {
		end, err := pg.Connect(context.Background(), other.AdminDSN(warehouse.Database()))
		require.NoError(t, err)
		defer func() { _ = end.Close(context.Background()) }()
		pgtest.Exec(t, end, "DROP SUBSCRIPTION all_of_it")
	})
	require.NoError(t, journal.InstallSource(t.Context(), conn, journal.SourceRun{RunID: "r1", Key: "k1"}))
	_, err := journal.Take(t.Context(), conn, "a")
	require.NoError(t, err)
	require.NoError(t, journal.RegisterBackends(t.Context(), conn, "a", []int32{int32(conn.PgConn().PID())}))
	pgtest.Exec(t, conn, "INSERT INTO public.t VALUES (1)")
	require.Eventually(t, func() bool { return pgtest.Value(t, there, "SELECT count(*) FROM public.t") == "1" }, pgtest.Timeout, 50*time.Millisecond, "it arrives: %s", strings.TrimSpace(other.ServerLog()))
}
