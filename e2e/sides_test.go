package e2e_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/neonlike"
	"crossfade/internal/lab/neonlike/neontest"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// sides are the two databases of one test. Clusters are shared, databases are
// the test's own.
type sides struct {
	source, target pg.DSN
	sourceCluster  *pgcluster.Cluster
	targetCluster  *pgcluster.Cluster
	neon           *neonlike.Endpoint // what target leads to; nil where that is the cluster itself
}

// newSides makes a source database whose owner is no superuser and a target like
// Neon, which is reached through its front.
func newSides(t *testing.T) *sides {
	t.Helper()
	s := &sides{sourceCluster: pgtest.Shared(t, pgtest.Source), targetCluster: neontest.Shared(t)}
	s.source = pgtest.Database(t, s.sourceCluster)
	s.neon = neontest.Endpoint(t, s.targetCluster)
	s.target = neontest.Database(t, s.neon)
	t.Cleanup(func() { s.dropMade(t) })
	return s
}

// plainSides are sides whose target is plain PostgreSQL, without TLS.
func plainSides(t *testing.T) *sides {
	t.Helper()
	s := &sides{sourceCluster: pgtest.Shared(t, pgtest.Source), targetCluster: pgtest.Shared(t, pgtest.Target)}
	s.source, s.target = pgtest.Database(t, s.sourceCluster), pgtest.Database(t, s.targetCluster)
	pgtest.Exec(t, adminOf(t, s.targetCluster, "postgres"), "ALTER ROLE "+s.target.User()+" CREATEROLE CREATEDB")
	t.Cleanup(func() { s.dropMade(t) })
	return s
}

// dropMade removes the role of the source's name that a run has made on the target.
func (s *sides) dropMade(t *testing.T) {
	t.Helper()
	c := s.targetCluster
	if pgtest.Value(t, adminOf(t, c, "postgres"), "SELECT count(*) FROM pg_roles WHERE rolname = '"+s.source.User()+"'") == "0" {
		return
	}
	admin := adminOf(t, c, s.target.Database())
	pgtest.Exec(t, admin, "ALTER DATABASE "+s.target.Database()+" OWNER TO "+s.target.User()+"; DROP OWNED BY "+s.source.User()+" CASCADE; DROP ROLE "+s.source.User())
}

// adminOf opens a superuser's session in a database of a side.
func adminOf(t *testing.T, c *pgcluster.Cluster, database string) *pgx.Conn {
	t.Helper()
	return pgtest.Conn(t, c.AdminDSN(database))
}

// dump returns the lines of pg_dump's view of a schema that can be compared: no
// comments and settings, no privileges of the platform, and the names of the
// test's roles replaced.
func (s *sides) dump(t *testing.T, d pg.DSN) []string {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	info, env := d.LibpqEnv()
	cmd := exec.Command(b.Path("pg_dump"), "--schema-only", "--no-owner", "--exclude-schema=crossfade", "--dbname="+info)
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.Output()
	require.NoError(t, err)
	names := strings.NewReplacer("reader_"+s.source.User(), "READER", s.source.User(), "OWNER", s.target.User(), "OWNER")
	var lines []string
	for _, l := range strings.Split(string(out), "\n") {
		if l == "" || strings.HasPrefix(l, "--") || strings.HasPrefix(l, `\`) || strings.Contains(l, "FOR ROLE "+neonlike.Superuser) {
			continue
		}
		lines = append(lines, names.Replace(l))
	}
	return lines
}

// requireSameSchema compares two dumps and names the lines that differ.
func requireSameSchema(t *testing.T, want, got []string, what string) {
	t.Helper()
	var missing, extra []string
	for _, l := range want {
		if !slices.Contains(got, l) {
			missing = append(missing, l)
		}
	}
	for _, l := range got {
		if !slices.Contains(want, l) {
			extra = append(extra, l)
		}
	}
	require.Empty(t, missing, "%s: only in the first", what)
	require.Empty(t, extra, "%s: only in the second", what)
	require.Len(t, got, len(want), what)
}

// requireNothingLeft fails when anything of ours is on a side, after clean where a run is finished: that
// leaves on the target what serving it needs, and nothing else.
func (s *sides) requireNothingLeft(t *testing.T) {
	t.Helper()
	target := pgtest.Conn(t, s.target)
	if pgtest.Value(t, target, `SELECT (coalesce(obj_description(to_regnamespace('crossfade'), 'pg_namespace'), '') LIKE '%is finished%')::text`) == "true" {
		require.Equal(t, "decision, login, pin, proof, role, run, type, verification, verified", pgtest.Value(t, target, `SELECT string_agg(relname, ', ' ORDER BY relname) FROM pg_class
			WHERE relnamespace = 'crossfade'::regnamespace AND relkind <> 'i'`))
		require.Equal(t, "0", pgtest.Value(t, target, `SELECT count(*) FROM pg_proc WHERE pronamespace = 'crossfade'::regnamespace`))
		out, code := s.say(t, nil, "clean")
		require.Equal(t, 0, code, out)
		oneLine(t, out, "removed target: schema crossfade")
	}
	for _, d := range []pg.DSN{s.source, s.target} {
		c := pgtest.Conn(t, d)
		require.Equal(t, "0", pgtest.Value(t, c, `SELECT count(*) FROM pg_namespace WHERE nspname = 'crossfade'`), "schema in %s", d)
		require.Equal(t, "0", pgtest.Value(t, c, `SELECT count(*) FROM pg_replication_slots WHERE database = current_database()`), "slot in %s", d)
		require.Equal(t, "0", pgtest.Value(t, c, `SELECT count(*) FROM pg_publication`), "publication in %s", d)
		require.Equal(t, "0", pgtest.Value(t, c, `SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%crossfade%'`), "trigger in %s", d)
	}
}
