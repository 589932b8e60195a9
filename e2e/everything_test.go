package e2e_test

import (
	"crypto/rand"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/pg"
	"crossfade/internal/pgcluster"
	"crossfade/internal/pgcluster/pgtest"
	"crossfade/schema/schematest"
)

// superuserTarget makes an empty database whose role is the cluster's superuser.
func superuserTarget(t *testing.T, c *pgcluster.Cluster) pg.DSN {
	t.Helper()
	name := "s" + strings.ToLower(rand.Text()[:12])
	pgtest.Exec(t, adminOf(t, c, "postgres"), "CREATE DATABASE "+name+" TEMPLATE template0")
	t.Cleanup(func() { pgtest.Drop(t, c, name) })
	return c.AdminDSN(name)
}

// dumpLines is pg_dump's text of a schema with owners and privileges, without
// comments, in the names of the source.
func dumpLines(t *testing.T, d pg.DSN, names *strings.Replacer) []string {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	info, env := d.LibpqEnv()
	cmd := exec.Command(b.Path("pg_dump"), "--schema-only", "--create", "--dbname="+info)
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.Output()
	require.NoError(t, err)
	var lines []string
	for _, l := range strings.Split(names.Replace(string(out)), "\n") {
		if l != "" && !strings.HasPrefix(l, "-- ") && l != "--" && !strings.HasPrefix(l, `\`) {
			lines = append(lines, l)
		}
	}
	return lines
}

// requireSameRows compares every table, and the positions of the sequences.
func requireSameRows(t *testing.T, source, target pg.DSN) {
	t.Helper()
	a, b := pgtest.Conn(t, source), pgtest.Conn(t, target)
	rows, err := a.Query(t.Context(), `SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'm') AND c.relispopulated AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1`)
	require.NoError(t, err)
	var tables []string
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		tables = append(tables, name)
	}
	require.NoError(t, rows.Err())
	require.NotEmpty(t, tables)
	for _, name := range tables {
		sum := "SELECT count(*) || '/' || coalesce(sum(hashtextextended(r::text, 0)), 0) || '/' || coalesce(sum(hashtextextended(r::text, 1)), 0) FROM ONLY " + name + " r"
		require.Equal(t, pgtest.Value(t, a, sum), pgtest.Value(t, b, sum), name)
	}
	sequences := `SELECT string_agg(schemaname || '.' || sequencename || '=' || coalesce(last_value::text, ''), ' ' ORDER BY schemaname COLLATE "C", sequencename COLLATE "C") FROM pg_sequences`
	require.Equal(t, pgtest.Value(t, a, sequences), pgtest.Value(t, b, sequences))
}

func TestCopyOfEverythingBySuperusers(t *testing.T) {
	t.Parallel()
	source, target := pgtest.Shared(t, pgtest.Source), pgtest.Shared(t, pgtest.Target)
	e := schematest.Load(t, source, schematest.Superuser, schematest.Tablespace)
	t.Cleanup(func() { e.DropRoles(t, target) })
	s := &sides{source: e.DSN, sourceCluster: source, target: superuserTarget(t, target), targetCluster: target}
	out, code := s.say(t, nil, "copy", "--roles")
	require.Equal(t, 0, code, out)
	t.Log(out)
	requireSameRows(t, s.source, s.target)
	want := dumpLines(t, s.source, strings.NewReplacer())
	got := dumpLines(t, s.target, strings.NewReplacer("cloud_admin", "postgres", s.target.Database(), s.source.Database()))
	requireSameSchema(t, want, got, "source and target")
}
