package e2e_test

import (
	"crypto/rand"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/neonlike/neontest"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
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

// dumpSections is pg_dump's text of a schema with owners and privileges, cut at
// its headings, in the names of the source. A heading has the object's name, kind
// and owner; tablespaces are left out.
func dumpSections(t *testing.T, d pg.DSN, names *strings.Replacer) map[string]string {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	info, env := d.LibpqEnv()
	cmd := exec.Command(b.Path("pg_dump"), "--schema-only", "--create", "--blobs", "--dbname="+info)
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.Output()
	require.NoError(t, err)
	sections := map[string]string{}
	heading := ""
	for _, l := range strings.Split(names.Replace(string(out)), "\n") {
		switch {
		case strings.HasPrefix(l, "-- Name: "):
			heading, _, _ = strings.Cut(l, "; Tablespace: ")
			require.NotContains(t, sections, heading)
			sections[heading] = ""
		case strings.HasPrefix(l, "--") || l == "" || strings.HasPrefix(l, `\`) || strings.HasPrefix(l, "SET default_tablespace"):
		default:
			sections[heading] += l + "\n"
		}
	}
	return sections
}

// requireSections fails where two dumps differ but for what allowed names: a part
// of the heading of a section that is in the first alone, or is otherwise in the
// second, with what makes the first's text the second's. What is the target's own
// has a heading with a part of theirs.
func requireSections(t *testing.T, want, got map[string]string, allowed map[string]*strings.Replacer, theirs ...string) {
	t.Helper()
	used := map[string]bool{}
	for heading, text := range want {
		for part, change := range allowed {
			if !strings.Contains(heading, part) {
				continue
			}
			used[part] = true
			if change == nil {
				require.NotContains(t, got, heading, "it is not as documented")
				text = ""
			} else {
				text = change.Replace(text)
			}
		}
		if text != "" || want[heading] == "" {
			assert.Equal(t, text, got[heading], heading)
		}
	}
	for heading, text := range got {
		own := slices.ContainsFunc(theirs, func(part string) bool { return strings.Contains(heading, part) })
		if _, ok := want[heading]; !ok && !own {
			t.Errorf("only on the target: %s\n%s", heading, text)
		}
	}
	for part := range allowed {
		assert.True(t, used[part], "no section is called %s", part)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// requireSameContent compares every table, and the positions of the sequences.
func requireSameContent(t *testing.T, source, target pg.DSN) {
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
	sampleOnly(t)
	source, target := pgtest.Shared(t, pgtest.Source), pgtest.Own(t, pgtest.Target) // --roles makes those of other tests too
	e := schematest.Load(t, source, schematest.Superuser, schematest.Tablespace, schematest.LargeObjects)
	t.Cleanup(func() { e.DropRoles(t, target) })
	s := &sides{source: e.DSN, sourceCluster: source, target: superuserTarget(t, target), targetCluster: target}
	out, code := s.say(t, nil, "copy", "--roles", "--large-objects")
	require.Equal(t, 0, code, out)
	t.Log(out)
	requireSameContent(t, s.source, s.target)
	want := dumpSections(t, s.source, strings.NewReplacer())
	got := dumpSections(t, s.target, strings.NewReplacer("cloud_admin", "postgres", s.target.Database(), s.source.Database()))
	requireSections(t, want, got, map[string]*strings.Replacer{"Type: PUBLICATION": nil, "Type: SUBSCRIPTION": nil})
	for _, note := range []string{"PUBLICATION pub_all", "SUBSCRIPTION sub", "INDEX kind.twice_n", "tablespace " + e.Space} {
		require.Contains(t, out, note)
	}
}

// A target like Neon, whose role is no superuser: what is unlogged gets logged,
// and what belongs to the platform stays its own.
func TestCopyOfEverythingToNeon(t *testing.T) {
	t.Parallel()
	source, target := pgtest.Shared(t, pgtest.Source), neontest.Own(t) // --roles makes those of other tests too
	e := schematest.Load(t, source, schematest.LargeObjects)
	t.Cleanup(func() { e.DropRoles(t, target) })
	end := neontest.Endpoint(t, target)
	s := &sides{source: e.DSN, sourceCluster: source, target: neontest.Database(t, end), targetCluster: target, neon: end}
	out, code := s.say(t, nil, "copy", "--roles", "--large-objects")
	require.Equal(t, 0, code, out)
	t.Log(out)
	requireSameContent(t, s.source, s.target)
	want := dumpSections(t, s.source, strings.NewReplacer())
	// The database and its owner have one name.
	from, to := s.target.Database(), s.source.Database()
	got := dumpSections(t, s.target, strings.NewReplacer("DATABASE "+from, "DATABASE "+to, from+"; Type: DATABASE", to+"; Type: DATABASE", from, "postgres"))
	requireSections(t, want, got, map[string]*strings.Replacer{
		"Type: PUBLICATION":     nil,
		"Type: SUBSCRIPTION":    nil,
		"Name: scratch":         strings.NewReplacer("UNLOGGED ", ""),
		"Type: DATABASE; ":      strings.NewReplacer("LOCALE = 'C'", "LOCALE = 'C.UTF-8'"),
		"Name: DATABASE " + to:  strings.NewReplacer("GRANT CONNECT", "GRANT ALL ON DATABASE "+to+" TO neon_superuser;\nGRANT CONNECT"),
		"Type: DATABASE PROPER": strings.NewReplacer("ALTER DATABASE "+to+` SET "app.tenant" TO E'it''s \\ one';`+"\n", ""),
	}, "Owner: cloud_admin", "Name: public; Type: SCHEMA")
	for _, note := range []string{"PUBLICATION pub_all", "SUBSCRIPTION sub", "INDEX kind.twice_n", "app.tenant", "TABLE kind.scratch"} {
		require.Contains(t, out, note)
	}
	require.NotContains(t, out, "it's", "a setting's value may be a secret")
}
