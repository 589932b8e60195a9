package arch

import (
	"path"
	"slices"
	"strings"
)

// Protocols are the packages that keep a protocol or an invariant and so say
// in doc.go what it is. One that does not exist yet is passed over.
var Protocols = []string{
	"proxy", "proxy/wire", "proxy/auth", "proxy/auth/scram", "proxy/tlsconf", "proxy/backend", "proxy/state", "proxy/route", "proxy/poll", "proxy/rewrite", "proxy/side",
	"proxy/session", "proxy/login", "proxy/move", "proxy/mirror", "proxy/ending", "proxy/ask",
	"replicate", "replicate/copy", "replicate/copy/relay", "replicate/slot", "replicate/snapshot", "replicate/stream", "replicate/apply", "replicate/progress",
	"replicate/extras/sequence", "replicate/verify",
	"schema", "schema/archive", "schema/catalog", "schema/changes", "schema/fingerprint", "schema/passive", "schema/plan", "schema/restore", "schema/roles",
	"cutover", "cutover/machine", "cutover/preflight", "cutover/preflight/answer", "cutover/preflight/database", "cutover/preflight/expression", "cutover/preflight/extension", "cutover/preflight/inquiry", "cutover/preflight/loginrole", "cutover/preflight/privilege", "cutover/preflight/server",
	"internal/lab/arch", "internal/app/control", "internal/app/dbconn", "internal/app/runs", "internal/app/watch", "internal/app/logins", "internal/app/ports", "internal/app/migration", "internal/app/definitions", "internal/app/matviews", "internal/app/compare", "internal/app/oneshot", "internal/app/undo", "internal/app/daemon", "internal/base/failpoint", "internal/lab/history", "internal/base/journal",
	"internal/lab/neonlike", "internal/lab/netfault", "internal/base/obs", "internal/base/onedatabase", "internal/base/pg", "internal/lab/pgcluster", "internal/base/retry",
	"internal/lab/workload", "internal/base/sqltext",
}

// minDocLines is the least that a statement of a protocol takes: a one-line
// doc.go states a name, not an invariant.
const minDocLines = 4

func checkDoc(t *Tree) []Violation {
	var found []Violation
	for dir, files := range t.dirs() {
		production := slices.DeleteFunc(slices.Clone(files), func(f *File) bool { return f.Test })
		if len(production) == 0 {
			continue
		}
		commented := slices.ContainsFunc(production, func(f *File) bool { return f.AST.Doc != nil })
		if !commented {
			found = append(found, Violation{"doc", production[0].Path, 0, "the package has no package comment"})
			continue
		}
		if !slices.Contains(Protocols, dir) {
			continue
		}
		i := slices.IndexFunc(production, func(f *File) bool { return path.Base(f.Path) == "doc.go" })
		switch {
		case i < 0:
			found = append(found, Violation{"doc", dir, 0, "states a protocol or an invariant, and has no doc.go"})
		case production[i].AST.Doc == nil || strings.Count(production[i].AST.Doc.Text(), "\n") < minDocLines:
			found = append(found, Violation{"doc", production[i].Path, 0, "doc.go does not state what the package keeps to"})
		}
	}
	return found
}

// checkLeak asks for a TestMain that looks for goroutines left behind: goleak's
// own, or pgtest.Main, which calls it.
func checkLeak(t *Tree) []Violation {
	var found []Violation
	for dir, files := range t.dirs() {
		tested := slices.IndexFunc(files, func(f *File) bool { return f.Test })
		if tested < 0 {
			continue
		}
		guarded := slices.ContainsFunc(files, func(f *File) bool {
			return f.Test && (len(f.uses(f.AST, "go.uber.org/goleak", "VerifyTestMain")) > 0 ||
				len(f.uses(f.AST, t.Module+"/internal/lab/pgcluster/pgtest", "Main")) > 0)
		})
		if !guarded {
			found = append(found, Violation{"leak", files[tested].Path, 0,
				"package " + dir + " has tests and no TestMain that calls goleak.VerifyTestMain or pgtest.Main"})
		}
	}
	return found
}
