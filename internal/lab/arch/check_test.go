package arch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// clean is a small repository without a violation; a fixture overlays it.
var clean = map[string]string{
	"cmd/crossfade/main.go":    "// Command crossfade moves databases.\npackage main\n\nimport (\n\t\"os\"\n\n\t\"crossfade/internal/app/cli\"\n)\n\nfunc main() { os.Exit(cli.Main()) }\n",
	"internal/app/cli/main.go": "// Package cli is the command line.\npackage cli\n\nimport _ \"crossfade/internal/app/daemon\"\n\nfunc Main() int { return 0 }\n",
	"internal/app/daemon/doc.go": "// Package daemon combines the domains.\n//\n// It owns all of them.\n//\n// And ends them.\npackage daemon\n\n" +
		"import (\n\t_ \"crossfade/cutover\"\n\t_ \"crossfade/proxy\"\n)\n",
	"cutover/doc.go": protocolDoc("cutover") + "\nimport _ \"crossfade/schema/catalog\"\n",
	"proxy/doc.go":   protocolDoc("proxy") + "\nimport _ \"crossfade/internal/base/pg\"\n",
}

func protocolDoc(name string) string {
	return "// Package " + name + " keeps a promise.\n//\n// The promise.\n//\n// Its reason.\npackage " + name + "\n"
}

func check(t *testing.T, overlay map[string]string) []Violation {
	t.Helper()
	fsys := fstest.MapFS{}
	for _, m := range []map[string]string{clean, overlay} {
		for p, src := range m {
			fsys[p] = &fstest.MapFile{Data: []byte(src)}
		}
	}
	tree, err := Load(fsys, "crossfade")
	require.NoError(t, err)
	return tree.Check()
}

func TestACleanTreeHasNoViolation(t *testing.T) {
	t.Parallel()
	require.Empty(t, check(t, nil))
}

func TestEachRuleCanFail(t *testing.T) {
	t.Parallel()
	const guard = "package proxy\n\nimport (\n\t\"testing\"\n\n\t\"go.uber.org/goleak\"\n)\n\nfunc TestMain(m *testing.M) { goleak.VerifyTestMain(m) }\n"
	imports := func(pkg, target string) string { return "package " + pkg + "\n\nimport _ \"" + target + "\"\n" }
	tests := []struct {
		name   string
		files  map[string]string
		rule   string
		detail string
	}{
		{"cmd imports more than cli", map[string]string{"cmd/crossfade/x.go": imports("main", "crossfade/internal/base/pg")}, "imports", "cmd imports internal/app/cli only"},
		{"domain imports domain", map[string]string{"cutover/x.go": imports("cutover", "crossfade/proxy/wire")}, "imports", "domain cutover knows nothing of domain proxy"},
		{"a package imports one above it", map[string]string{"schema/plan/doc.go": protocolDoc("plan") + "\nimport _ \"crossfade/schema/restore\"\n"}, "imports", "schema/plan imports only"},
		{"a lowest package imports another", map[string]string{"schema/archive/doc.go": protocolDoc("archive") + "\nimport _ \"crossfade/schema/plan\"\n"}, "imports", "schema/archive stands lowest"},
		{"a package without a place", map[string]string{"schema/new/doc.go": protocolDoc("new") + "\nimport _ \"crossfade/schema/plan\"\n"}, "imports", "no place among the packages"},
		{"domain imports the composition root", map[string]string{"proxy/x.go": imports("proxy", "crossfade/internal/app/daemon")}, "imports", "of internal/"},
		{"domain imports the journal", map[string]string{"proxy/x.go": imports("proxy", "crossfade/internal/base/journal")}, "imports", "of internal/"},
		{"cli reaches past the daemon", map[string]string{"internal/app/cli/x.go": imports("cli", "crossfade/proxy")}, "imports", "through internal/app/daemon"},
		{"a leaf imports a domain", map[string]string{"internal/dashboard/x.go": "// Package dashboard is a page.\n" + imports("dashboard", "crossfade/cutover")}, "imports", "put the domains together"},
		{"a package of the application imports one above it", map[string]string{"internal/app/control/doc.go": protocolDoc("control"), "internal/app/control/x.go": imports("control", "crossfade/internal/app/dbconn")}, "imports", "dbconn stands above control"},
		{"the command line reaches below the daemon", map[string]string{"internal/app/cli/x.go": imports("cli", "crossfade/internal/app/dbconn")}, "imports", "reaches it through internal/app/daemon"},
		{"a package of the application without a place", map[string]string{"internal/app/daemon/x.go": imports("daemon", "crossfade/internal/app/attic")}, "imports", "has no place"},
		{"a package of the application that puts no domains together", map[string]string{"internal/app/dbconn/doc.go": protocolDoc("dbconn"), "internal/app/dbconn/x.go": imports("dbconn", "crossfade/proxy")}, "imports", "put the domains together"},
		{"the daemon imports cli", map[string]string{"internal/app/daemon/x.go": imports("daemon", "crossfade/internal/app/cli")}, "imports", "only cmd"},
		{"a second user of the daemon", map[string]string{"internal/app/control/doc.go": protocolDoc("control"), "internal/app/control/x.go": imports("control", "crossfade/internal/app/daemon")}, "imports", "only internal/app/cli and internal/lab/demo"},
		{"a second user of the demo", map[string]string{"internal/app/control/doc.go": protocolDoc("control"), "internal/app/control/x.go": imports("control", "crossfade/internal/lab/demo")}, "imports", "only tests, benchmarks and the demo command import internal/lab"},
		{"the demo reaches past the daemon", map[string]string{"internal/lab/demo/x.go": "// Package demo is a demo.\n" + imports("demo", "crossfade/replicate/slot")}, "imports", "through internal/app/daemon"},
		{"base imports what stands above it", map[string]string{"internal/base/deep/x.go": "// Package deep is deep.\n" + imports("deep", "crossfade/proxy/wire")}, "imports", "internal/base is below"},
		{"the composition root imports lab", map[string]string{"internal/app/daemon/x.go": imports("daemon", "crossfade/internal/lab/pgcluster")}, "imports", "only tests, benchmarks and the demo command"},
		{"lab imports the application", map[string]string{"internal/lab/made/x.go": "// Package made is made.\n" + imports("made", "crossfade/internal/app/control")}, "imports", "only internal/lab/demo imports internal/app"},
		{"production imports a benchmark", map[string]string{"internal/app/cli/x.go": imports("cli", "crossfade/bench/proxy")}, "imports", "bench holds benchmarks"},
		{"production imports e2e", map[string]string{"proxy/x.go": imports("proxy", "crossfade/e2e/harness")}, "imports", "e2e holds tests"},
		{"a session knows the move", map[string]string{"proxy/session/doc.go": protocolDoc("session"), "proxy/session/x.go": imports("session", "crossfade/proxy/move")}, "imports", "proxy/session imports only"},
		{"a login knows the move", map[string]string{"proxy/login/doc.go": protocolDoc("login"), "proxy/login/x.go": imports("login", "crossfade/proxy/move")}, "imports", "proxy/login imports only"},
		{"too many fields", map[string]string{"proxy/x.go": "package proxy\n\ntype big struct {\n\tin struct {\n\t\t" + strings.Repeat("a, ", 24) + "b int\n\t}\n\tc int\n}\n"}, "type", "26 fields"},
		{"too many methods", map[string]string{"proxy/x.go": "package proxy\n\ntype big int\n" + strings.Repeat("\nfunc (b *big) f() {}\n", 31)}, "type", "31 methods"},
		{"pgproto3 outside wire", map[string]string{"proxy/x.go": imports("proxy", "github.com/jackc/pgproto3/v2")}, "fenced", "only proxy/wire may"},
		{"pgproto3 in a test outside wire", map[string]string{"proxy/main_test.go": guard, "proxy/x_test.go": imports("proxy", "github.com/jackc/pgproto3/v2")}, "fenced", "only proxy/wire may"},
		{"production imports a test library", map[string]string{"proxy/x.go": imports("proxy", "github.com/stretchr/testify/require")}, "testonly", "test library"},
		{"production imports testing", map[string]string{"proxy/x.go": imports("proxy", "testing")}, "testonly", "test library testing"},
		{"production opens a door of tests", map[string]string{"proxy/x.go": "package proxy\n\nimport \"crossfade/proxy/session\"\n\nvar d = session.DoorOf(nil)\n"}, "testonly", "which is for tests"},
		{"production imports a test helper", map[string]string{"internal/app/cli/x.go": imports("cli", "crossfade/internal/lab/pgcluster/pgtest")}, "testonly", "test helper"},
		{"os.Exit", map[string]string{"proxy/x.go": "package proxy\n\nimport \"os\"\n\nfunc f() { os.Exit(1) }\n"}, "exit", "os.Exit"},
		{"os.Exit under another name", map[string]string{"proxy/x.go": "package proxy\n\nimport system \"os\"\n\nvar f = system.Exit\n"}, "exit", "os.Exit"},
		{"log.Fatal", map[string]string{"proxy/x.go": "package proxy\n\nimport \"log\"\n\nfunc f() { log.Fatal(1) }\n"}, "exit", "log.Fatal"},
		{"sleep in production", map[string]string{"proxy/x.go": "package proxy\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n"}, "sleep", "timer"},
		{"sleep in a test", map[string]string{"proxy/main_test.go": guard, "proxy/x_test.go": "package proxy\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n"}, "sleep", "await the thing itself"},
		{"NOT = ANY of a parameter", map[string]string{"proxy/x.go": "package proxy\n\nconst q = `SELECT WHERE NOT a.pid = ANY ($1)`\n"}, "nulllist", "NULL"},
		{"<> ALL of a parameter", map[string]string{"proxy/x.go": "package proxy\n\nconst q = `SELECT WHERE pid <> ALL ($2::int[])`\n"}, "nulllist", "NULL"},
		{"a component by hand", map[string]string{"proxy/x.go": "package proxy\n\nimport \"crossfade/internal/base/obs\"\n\nvar key = obs.KeyComponent\n"}, "component", "use obs.Component"},
		{"bad directory name", map[string]string{"internal/util/x.go": "// Package util is anything.\npackage util\n"}, "name", "util"},
		{"bad package name", map[string]string{"internal/x/x.go": "// Package common is anything.\npackage common\n"}, "name", "common"},
		{"long file", map[string]string{"proxy/x.go": "package proxy\n" + strings.Repeat("//\n", MaxLines)}, "size", "701 lines"},
		{"no package comment", map[string]string{"internal/x/x.go": "package x\n"}, "doc", "no package comment"},
		{"protocol without doc.go", map[string]string{"proxy/wire/x.go": "// Package wire is wire.\npackage wire\n"}, "doc", "no doc.go"},
		{"protocol with an empty doc.go", map[string]string{"proxy/wire/doc.go": "// Package wire is wire.\npackage wire\n"}, "doc", "does not state"},
		{"tests without a leak check", map[string]string{"proxy/x_test.go": "package proxy\n"}, "leak", "no TestMain"},
		{"a TestMain that checks nothing", map[string]string{"proxy/main_test.go": "package proxy\n\nimport \"testing\"\n\nfunc TestMain(m *testing.M) { m.Run() }\n"}, "leak", "no TestMain"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := check(t, tt.files)
			require.Len(t, got, 1, "%v", got)
			require.Equal(t, tt.rule, got[0].Rule)
			require.Contains(t, got[0].String(), tt.detail)
		})
	}
}

func TestFilesOfAPackageAreBounded(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for n := range MaxFiles {
		files[fmt.Sprintf("internal/app/cli/x%d.go", n)] = "package cli\n"
	}
	got := check(t, files) // and main.go
	require.Len(t, got, 1)
	require.Equal(t, "files", got[0].Rule)
	require.Contains(t, got[0].Detail, "26 files, at most 25")

	files = map[string]string{}
	for n := range MaxFaceFiles + 1 {
		files[fmt.Sprintf("internal/app/daemon/x%d.go", n)] = "// Package daemon composes.\npackage daemon\n"
	}
	got = check(t, files)
	require.True(t, slices.ContainsFunc(got, func(v Violation) bool { return v.Rule == "files" && strings.Contains(v.Detail, "at most 15") }), "%v", got)
}

func TestTheMedianIsBounded(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for n := range 8 {
		files[fmt.Sprintf("proxy/x%d.go", n)] = "package proxy\n" + strings.Repeat("//\n", MedianLines)
	}
	got := check(t, files)
	require.Len(t, got, 1)
	require.Contains(t, got[0].Detail, "median")
	require.Equal(t, 0, median(nil))
}

func TestWhatIsAllowed(t *testing.T) {
	t.Parallel()
	const guard = "import (\n\t\"testing\"\n\n\t\"go.uber.org/goleak\"\n)\n\nfunc TestMain(m *testing.M) { goleak.VerifyTestMain(m) }\n"
	require.Empty(t, check(t, map[string]string{
		"internal/app/cli/check.go":          "package cli\n\nimport _ \"crossfade/cutover/preflight/answer\"\n",
		"proxy/wire/doc.go":                  protocolDoc("wire") + "\nimport _ \"github.com/jackc/pgproto3/v2\"\n",
		"proxy/main_test.go":                 "package proxy\n\n" + guard,
		"proxy/neighbour_test.go":            "package proxy\n\nimport _ \"crossfade/cutover\"\n",
		"proxy/time_test.go":                 "package proxy\n\nimport (\n\t\"testing/synctest\"\n\t\"time\"\n)\n\nfunc f() { synctest.Test(nil, func() { time.Sleep(1) }) }\n",
		"proxy/generated.go":                 "// Code generated by hand. DO NOT EDIT.\n\npackage proxy\n" + strings.Repeat("//\n", MaxLines),
		"proxy/testdata/bad.go":              "package util\n\nimport \"os\"\n\nfunc init() { os.Exit(1) }\n",
		"e2e/other/go.mod":                   "module other\n",
		"e2e/other/main.go":                  "package main\n\nimport \"os\"\n\nfunc main() { os.Exit(1) }\n",
		"internal/lab/install/main.go":       "// Command install installs.\npackage main\n\nimport \"os\"\n\nfunc main() { os.Exit(1) }\n",
		"internal/lab/pgcluster/pgtest/x.go": "// Package pgtest helps tests.\npackage pgtest\n\nimport _ \"testing\"\n",
		"proxy/tlsconf/tlstest/x.go":         "// Package tlstest helps tests.\npackage tlstest\n\nimport _ \"crossfade/internal/lab/pgcluster/pgtest\"\n",
		"internal/lab/demo/x.go":             "// Package demo is a demo.\npackage demo\n\nimport _ \"crossfade/internal/app/daemon\"\n",
		"proxy/list.go":                      "package proxy\n\nconst q = `SELECT WHERE pid <> ALL (coalesce($1, '{}')) AND oid = ANY ($2) AND NOT a = ANY (ARRAY[1])`\n",
		"e2e/harness/x.go":                   "// Package harness drives the program.\npackage harness\n\nimport _ \"crossfade/proxy\"\n",
	}))
}

func TestLoadRefusesWhatIsNotGo(t *testing.T) {
	t.Parallel()
	_, err := Load(fstest.MapFS{"x.go": &fstest.MapFile{Data: []byte("pakage x")}}, "crossfade")
	require.ErrorContains(t, err, "load tree")
}
