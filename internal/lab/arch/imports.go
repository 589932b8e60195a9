package arch

import (
	"fmt"
	"slices"
	"strings"
)

// Domains are the packages that never import one another.
var Domains = []string{"proxy", "replicate", "schema", "cutover"}

// Catalog is the one package of a domain that the others may import: a pure,
// read-only model.
const Catalog = "schema/catalog"

// Shared are the packages of internal/ that a domain may import.
var Shared = []string{"internal/base/pg", "internal/base/retry", "internal/base/failpoint", "internal/base/obs", "internal/base/sqltext",
	"internal/base/onedatabase", "internal/base/unconvertible", "internal/base/lists", "internal/base/walk"}

// The parts of internal/: what is above the domains, what is below them, and what only tests,
// benchmarks and the demo use.
const (
	app  = "internal/app"
	base = "internal/base"
	lab  = "internal/lab"

	cli    = app + "/cli"
	daemon = app + "/daemon"
	demo   = lab + "/demo"
)

// facesMayImport are the packages of a domain that the command line and the demo may import: they
// use the rest of the domains through the composition root.
var facesMayImport = []string{"cutover/preflight/answer"}

// checkImports enforces cmd → app → domains → base, and that production code does not
// import lab. Test files and helpers of tests may import more: a test of one package may need
// another one.
func checkImports(t *Tree) []Violation {
	var found []Violation
	for _, f := range t.Files {
		if f.Test || testHelper(f.Dir) {
			continue
		}
		f.Imports(func(importPath string, line int) {
			target, ours := strings.CutPrefix(importPath, t.Module+"/")
			if !ours {
				return
			}
			if why := refused(f.Dir, target); why != "" {
				found = append(found, Violation{"imports", f.Path, line, fmt.Sprintf("imports %s: %s", target, why)})
			}
		})
	}
	return found
}

// refused says why a production file in dir may not import target, or "".
func refused(dir, target string) string {
	switch {
	case within(target, "cmd"):
		return "nothing imports cmd"
	case within(dir, "cmd"):
		if target != cli {
			return "cmd imports " + cli + " only"
		}
		return ""
	case within(target, "e2e") && !within(dir, "e2e"):
		return "e2e holds tests"
	case within(target, "bench") && !within(dir, "bench"):
		return "bench holds benchmarks"
	case within(dir, "e2e"), within(dir, "bench"):
		return ""
	case domainOf(dir) != "":
		return refusedOfDomain(dir, target)
	case within(dir, base):
		if !within(target, base) {
			return base + " is below all other packages"
		}
		return ""
	case within(target, lab) && !within(dir, lab) && dir != cli:
		return "only tests, benchmarks and the demo command import " + lab
	case target == cli:
		return "only cmd imports " + cli
	}
	face := dir == cli || dir == demo
	switch {
	case target == daemon && !face:
		return "only " + cli + " and " + demo + " import " + daemon
	case within(target, app) && !within(dir, app) && !face:
		return "of " + lab + " only " + demo + " imports " + app
	case within(target, app):
		return refusedOfApp(dir, target, face)
	case domainOf(target) == "" || putsTogether(dir):
		return ""
	case face && !slices.Contains(facesMayImport, target):
		return dir + " reaches the domains through " + daemon
	case !face && target != Catalog:
		return "only " + puttingTogether() + " put the domains together"
	}
	return ""
}

// refusedOfDomain is refused for the packages of a domain.
func refusedOfDomain(dir, target string) string {
	from, to := domainOf(dir), domainOf(target)
	switch {
	case to == from:
		return refusedWithinDomain(dir, target)
	case target == Catalog, slices.Contains(Shared, target):
		return ""
	case to != "":
		return fmt.Sprintf("domain %s knows nothing of domain %s; cutover declares the interfaces that it needs", from, to)
	}
	return fmt.Sprintf("of internal/ a domain imports only %s", strings.Join(Shared, ", "))
}

// domainOf returns the domain that a directory belongs to, or "".
func domainOf(dir string) string {
	for _, d := range Domains {
		if within(dir, d) {
			return d
		}
	}
	return ""
}
