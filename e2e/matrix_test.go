package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/neonlike"
	"crossfade/internal/lab/neonlike/neontest"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/archive"
)

// These variables are set by make matrix: the directory with servers of several
// majors, as internal/lab/fetchpg leaves it, and the page that gets the table.
const (
	matrixVariable     = "CROSSFADE_MATRIX"
	matrixPageVariable = "CROSSFADE_MATRIX_PAGE"
)

// pairs are the majors that are moved from and to. A pair with the newest client
// shows that pg_dump may be newer than both.
var pairs = []struct {
	source, target int
	newest         bool
}{{12, 14, false}, {13, 17, false}, {14, 16, true}, {15, 17, false}, {15, 18, false}, {17, 18, false}}

func matrixDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv(matrixVariable)
	if dir == "" {
		t.Skip("make matrix fetches servers of other majors and sets " + matrixVariable)
	}
	return dir
}

func serversOf(t *testing.T, dir string, major int) pgcluster.Binaries {
	t.Helper()
	b, err := pgcluster.In(filepath.Join(dir, strconv.Itoa(major), "bin"))
	require.NoError(t, err)
	require.Equal(t, major, b.Major)
	return b
}

// sidesOf makes a source and a target like Neon of other majors, each a cluster of
// the test's own.
func sidesOf(t *testing.T, source, target pgcluster.Binaries) *sides {
	t.Helper()
	s := &sides{
		sourceCluster: pgtest.Own(t, pgtest.Source, func(c *pgcluster.Config) { c.Binaries = source }),
		targetCluster: pgtest.Own(t, pgtest.Target, func(c *pgcluster.Config) {
			*c = neonlike.Config(target, false)
			c.Settings["max_connections"] = "200"
		}),
	}
	s.source = pgtest.Database(t, s.sourceCluster)
	s.neon = neontest.Endpoint(t, s.targetCluster)
	s.target = neontest.Database(t, s.neon)
	return s
}

// dumps lists the directories with a pg_dump, by major: that of the machine, which
// is found without being told of, as "", and those that were fetched.
func dumps(t *testing.T, dir string) map[int]string {
	t.Helper()
	found := map[int]string{}
	fetched, err := filepath.Glob(filepath.Join(dir, "client-*", "bin"))
	require.NoError(t, err)
	for _, bin := range fetched {
		major, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(bin)), "client-"))
		require.NoError(t, err)
		found[major] = bin
	}
	if major, err := archive.DumpMajor(context.Background(), 0); err == nil {
		found[major] = ""
	}
	return found
}

// dumpFor picks the oldest pg_dump that is not older than the source, or the newest
// of all.
func dumpFor(found map[int]string, source int, newest bool) (major int) {
	for m := range found {
		if m >= source && (major == 0 || (m < major) != newest) {
			major = m
		}
	}
	return major
}

// TestMatrixOfVersions moves the samples between majors: a run under load with a
// cutover, then a copy of the same source into a second database.
func TestMatrixOfVersions(t *testing.T) {
	dir := matrixDir(t)
	found := dumps(t, dir)
	var table []string
	tried, wanted := 0, 0
	for _, p := range pairs {
		for _, m := range samples() {
			wanted++
			passed := t.Run(fmt.Sprintf("%d to %d, %s", p.source, p.target, m.schema), func(t *testing.T) {
				dump := dumpFor(found, p.source, p.newest)
				if dump == 0 {
					table = append(table, fmt.Sprintf("| %d | %d | none | %s | not run: no pg_dump %d was found | |", p.source, p.target, m.schema, p.source))
					t.Skipf("no pg_dump of version %d or newer was found", p.source)
				}
				tried++
				var env []string
				if bin := found[dump]; bin != "" {
					env = []string{pgcluster.BinDirVariable + "=" + bin}
				}
				source, target := serversOf(t, dir, p.source), serversOf(t, dir, p.target)
				s := sidesOf(t, source, target)
				m.fill(t, s)
				r := m.move(t, s, env...)
				copied := copyAgain(t, s, env)
				table = append(table, fmt.Sprintf("| %s | %s | %d | %s | moved under load: %d tables equal, %d transactions acknowledged and found, no client error, pause %.0f ms | %d tables equal |",
					fullVersion(t, s.source), fullVersion(t, s.target), dump, m.schema, r.tables, r.acknowledged, r.pauseMS, copied))
			})
			if !passed {
				table = append(table, fmt.Sprintf("| %d | %d | | %s | failed | |", p.source, p.target, m.schema))
			}
		}
	}
	text := "| source | target | pg_dump | sample | run and cutover | copy |\n|---|---|---|---|---|---|\n" + strings.Join(table, "\n") + "\n"
	fmt.Print(text)
	require.Positive(t, tried, "nothing was tried: no pair of versions has a pg_dump that is not older than its source; install PostgreSQL's client programs")
	if page := os.Getenv(matrixPageVariable); page != "" && len(table) == wanted {
		keepTable(t, page, text)
	}
}

// A matrix that moves nothing, since it lacks what it needs, must not pass.
func TestAMatrixThatTriesNothingFails(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	page := filepath.Join(empty, "page.md")
	require.NoError(t, os.WriteFile(page, []byte("<!-- matrix -->\nkept\n<!-- end of matrix -->\n"), 0o600))
	cmd := exec.Command(os.Args[0], "-test.run=^TestMatrixOfVersions$", "-test.v")
	cmd.Env = append(os.Environ(), matrixVariable+"="+empty, matrixPageVariable+"="+page, pgcluster.BinDirVariable+"="+empty) // no server, and no pg_dump
	out, err := cmd.CombinedOutput()
	require.Error(t, err, string(out))
	require.Contains(t, string(out), "nothing was tried")
	require.Contains(t, string(out), "install PostgreSQL's client programs")
	kept, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(kept), "kept", "the table of an earlier run stays")
}

// copyAgain copies the source into a fresh database of the target's cluster and
// compares every table.
func copyAgain(t *testing.T, s *sides, env []string) (tables int) {
	t.Helper()
	again := *s
	again.target = neontest.Database(t, s.neon)
	out, code := program(t, append(again.env(), env...), "copy", "--log-level=error")
	require.Equal(t, 0, code, out)
	from, to := pgtest.Conn(t, again.source), pgtest.Conn(t, again.target)
	names, err := from.Query(context.Background(), `SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1`)
	require.NoError(t, err)
	var all []string
	for names.Next() {
		var n string
		require.NoError(t, names.Scan(&n))
		all = append(all, n)
	}
	require.NoError(t, names.Err())
	for _, n := range all {
		sum := "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM " + n + " t"
		require.Equal(t, pgtest.Value(t, from, sum), pgtest.Value(t, to, sum), n)
	}
	require.NotEmpty(t, all)
	return len(all)
}

func fullVersion(t *testing.T, d pg.DSN) string {
	t.Helper()
	return pgtest.Value(t, pgtest.Conn(t, d), "SELECT current_setting('server_version')")
}

// keepTable puts the table between the two marks of a page.
func keepTable(t *testing.T, page, text string) {
	t.Helper()
	const begin, end = "<!-- matrix -->\n", "<!-- end of matrix -->\n"
	b, err := os.ReadFile(page)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(b), begin)
	_, after, ok2 := strings.Cut(rest, end)
	require.True(t, ok && ok2, "the page lacks its marks")
	require.NoError(t, os.WriteFile(page, []byte(before+begin+text+end+after), 0o644))
}

// What cannot work is refused in one line that says what to do.
func TestMatrixRefusals(t *testing.T) {
	dir := matrixDir(t)
	for _, r := range []struct {
		source, target, dump int
		says                 []string
	}{
		{16, 14, 17, []string{"target_older", "the target runs PostgreSQL 14, which is older than the source's 16", "make a target of version 16 or newer"}},
		{17, 18, 15, []string{"pg_dump_older", "pg_dump 15 refuses a server of version 17", "install PostgreSQL's client programs of version 17 or newer"}},
	} {
		t.Run(fmt.Sprintf("%d to %d with pg_dump %d", r.source, r.target, r.dump), func(t *testing.T) {
			s := sidesOf(t, serversOf(t, dir, r.source), serversOf(t, dir, r.target))
			pgtest.Exec(t, pgtest.Conn(t, s.source), `CREATE TABLE public.kept (id int PRIMARY KEY)`)
			refusal{code: 1, says: r.says, dump: r.dump}.try(t, s)
			out, code := program(t, append(s.env(), pretendDump(t, r.dump)...), "copy", "--log-level=error")
			require.Equal(t, 1, code, out)
			for _, want := range r.says {
				require.Contains(t, refusedWith(t, out), want)
			}
		})
	}
}

// pretendDump is a pg_dump that says to be of a version, and does nothing else.
func pretendDump(t *testing.T, major int) []string {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = --version ] && echo 'pg_dump (PostgreSQL) %d.1' && exit 0\nexit 1\n", major)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pg_dump"), []byte(script), 0o755))
	return []string{pgcluster.BinDirVariable + "=" + dir}
}
