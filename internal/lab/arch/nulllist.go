package arch

import (
	"go/ast"
	"go/token"
	"regexp"
)

// excluding matches SQL that leaves out what a list names, where the list is a bare
// parameter: a nil slice goes over as NULL, and then nothing is left at all.
var excluding = regexp.MustCompile(`(?i)(\bNOT\s+[\w.:"]+\s*=\s*ANY|<>\s*ALL|OPERATOR\(pg_catalog\.<>\)\s*ALL)\s*\(\s*\$\d`)

func checkNullList(t *Tree) []Violation {
	var found []Violation
	for _, f := range t.Files {
		if f.Test {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if ok && lit.Kind == token.STRING && excluding.MatchString(lit.Value) {
				found = append(found, Violation{"nulllist", f.Path, f.line(lit),
					"SQL leaves out a list that may be NULL, as a nil slice is: write <> ALL (coalesce($1, '{}'))"})
			}
			return true
		})
	}
	return found
}
