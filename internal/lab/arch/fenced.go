package arch

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

// Fenced maps a module to the only directories that may import it.
var Fenced = map[string][]string{
	// No longer maintained, and known to panic on hostile input (docs/adr/0002).
	"github.com/jackc/pgproto3/v2": {"proxy/wire"},
}

// testLibraries are modules that only tests and test helpers import, with the
// production directories that may import them all the same.
var testLibraries = map[string][]string{
	"testing":                           nil,
	"github.com/stretchr/testify":       nil,
	"go.uber.org/goleak":                nil,
	"pgregory.net/rapid":                nil,
	"github.com/cockroachdb/datadriven": nil,
	"github.com/xdg-go/scram":           nil,
	"github.com/anishathalye/porcupine": {"internal/lab/history"},
}

// doors are functions of production packages that exist for tests of other packages, by
// package and name.
var doors = []string{"session.DoorOf"}

// testHelper tells whether only tests, and other helpers, import the package:
// one whose name ends in test, as net/http/httptest does, or one of these.
func testHelper(dir string) bool {
	return strings.HasSuffix(dir, "test") || dir == "internal/lab/netfault" || dir == "internal/lab/arch"
}

func checkFenced(t *Tree) []Violation {
	var found []Violation
	for _, f := range t.Files {
		f.Imports(func(importPath string, line int) {
			for module, allowed := range Fenced {
				if within(importPath, module) && !slices.Contains(allowed, f.Dir) {
					found = append(found, Violation{"fenced", f.Path, line,
						fmt.Sprintf("imports %s, which only %s may", importPath, strings.Join(allowed, ", "))})
				}
			}
		})
	}
	return found
}

func checkTestOnly(t *Tree) []Violation {
	var found []Violation
	for _, f := range t.Files {
		if f.Test || testHelper(f.Dir) || within(f.Dir, "e2e") || within(f.Dir, "bench") {
			continue
		}
		f.Imports(func(importPath string, line int) {
			for module, allowed := range testLibraries {
				if within(importPath, module) && !slices.Contains(allowed, f.Dir) {
					found = append(found, Violation{"testonly", f.Path, line, "production code imports test library " + importPath})
				}
			}
			target, ours := strings.CutPrefix(importPath, t.Module+"/")
			if ours && testHelper(target) {
				found = append(found, Violation{"testonly", f.Path, line, "production code imports test helper " + target})
			}
		})
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && slices.Contains(doors, x.Name+"."+s.Sel.Name) {
					found = append(found, Violation{"testonly", f.Path, f.line(s), "production code calls " + x.Name + "." + s.Sel.Name + ", which is for tests"})
				}
			}
			return true
		})
	}
	return found
}
