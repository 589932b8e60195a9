package arch

import (
	"fmt"
	"go/ast"
	"slices"
)

// mayExit are the directories outside cmd whose files may end the process: the
// installer and the benchmark are main packages of their own, and pgtest ends a test binary after
// it has stopped the servers that the tests shared.
var mayExit = []string{"bench/copy", "bench/follow", "bench/link", "bench/proxy", "internal/lab/fetchpg", "internal/lab/install", "internal/lab/pgcluster/pgtest"}

// exits are the functions that end the process without running deferred calls.
var exits = map[string][]string{
	"os":      {"Exit"},
	"syscall": {"Exit"},
	"log":     {"Fatal", "Fatalf", "Fatalln"},
}

func checkExit(t *Tree) []Violation {
	var found []Violation
	for _, f := range t.Files {
		if f.Test || within(f.Dir, "cmd") || slices.Contains(mayExit, f.Dir) {
			continue
		}
		for pkg, names := range exits {
			for _, name := range names {
				for _, use := range f.uses(f.AST, pkg, name) {
					found = append(found, Violation{"exit", f.Path, f.line(use),
						fmt.Sprintf("%s.%s: return an error; only cmd ends the process", pkg, name)})
				}
			}
		}
	}
	return found
}

func checkSleep(t *Tree) []Violation {
	var found []Violation
	for _, f := range t.Files {
		bubbles := f.bubbles()
		for _, use := range f.uses(f.AST, "time", "Sleep") {
			inBubble := slices.ContainsFunc(bubbles, func(b ast.Node) bool {
				return b.Pos() <= use.Pos() && use.End() <= b.End()
			})
			switch {
			case f.Test && inBubble:
			case f.Test:
				found = append(found, Violation{"sleep", f.Path, f.line(use), "time.Sleep in a test: await the thing itself, or use testing/synctest"})
			default:
				found = append(found, Violation{"sleep", f.Path, f.line(use), "time.Sleep: use a timer that the context can end"})
			}
		}
	}
	return found
}

func checkComponent(t *Tree) []Violation {
	var found []Violation
	for _, f := range t.Files {
		if f.Test {
			continue
		}
		for _, use := range f.uses(f.AST, t.Module+"/internal/base/obs", "KeyComponent") {
			found = append(found, Violation{"component", f.Path, f.line(use), "obs.KeyComponent: a logger that has one already would have two; use obs.Component"})
		}
	}
	return found
}

// uses returns every place under root that names pkg.name.
func (f *File) uses(root ast.Node, pkg, name string) []ast.Node {
	known := f.importName(pkg)
	if known == "" {
		return nil
	}
	var found []ast.Node
	ast.Inspect(root, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != name {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok && id.Name == known {
			found = append(found, sel)
		}
		return true
	})
	return found
}

// bubbles returns the calls of synctest.Test: within them time is not real.
func (f *File) bubbles() []ast.Node {
	known := f.importName("testing/synctest")
	if known == "" {
		return nil
	}
	var found []ast.Node
	ast.Inspect(f.AST, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != "Test" {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok && id.Name == known {
			found = append(found, call)
		}
		return true
	})
	return found
}
