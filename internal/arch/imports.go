package arch

import (
	"fmt"
	"slices"
	"strings"
)

// Domains are the rooms that never import one another.
var Domains = []string{"proxy", "replicate", "schema", "cutover"}

// Catalog is the one package of a domain that the others may import: a pure,
// read-only model.
const Catalog = "schema/catalog"

// Shared are the packages of internal/ that a domain may import.
var Shared = []string{"internal/pg", "internal/retry", "internal/failpoint", "internal/obs"}

// faces are what stands above internal/daemon: the command line, and the demo
// that it starts. They reach the domains through internal/daemon.
var faces = []string{"internal/cli", "internal/demo"}

// facesMayImport are the packages of a domain that the faces may import.
var facesMayImport = []string{"cutover/preflight"}

// checkImports enforces cmd → internal/cli → internal/daemon → domains. Test
// files and helpers of tests may import more: a test of one room may need a
// neighbour to stand on.
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
		if target != "internal/cli" {
			return "cmd imports internal/cli only"
		}
		return ""
	case within(target, "e2e") && !within(dir, "e2e"):
		return "e2e holds tests"
	}

	if from := domainOf(dir); from != "" {
		to := domainOf(target)
		switch {
		case to == from, target == Catalog:
			return ""
		case to != "":
			return fmt.Sprintf("domain %s knows nothing of domain %s; cutover declares the interfaces that it needs", from, to)
		case !slices.Contains(Shared, target):
			return fmt.Sprintf("of internal/ a domain imports only %s", strings.Join(Shared, ", "))
		}
		return ""
	}

	face := slices.Contains(faces, dir)
	switch {
	case within(dir, "e2e"), within(dir, "bench"):
		return ""
	case target == "internal/cli":
		return "only cmd imports internal/cli"
	case target == "internal/daemon" && !face:
		return "only internal/cli and internal/demo import internal/daemon"
	case target == "internal/demo" && dir != "internal/cli":
		return "only internal/cli imports internal/demo"
	case face && domainOf(target) != "" && !slices.Contains(facesMayImport, target):
		return dir + " reaches the domains through internal/daemon"
	case !face && dir != "internal/daemon" && domainOf(target) != "" && target != Catalog:
		return "only internal/daemon puts the domains together"
	}
	return ""
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
