package arch

import (
	"cmp"
	"fmt"
	"slices"
)

// Violation is one breach of one rule.
type Violation struct {
	Rule   string // as named in the package documentation
	Path   string
	Line   int // 0 where the whole file or package is meant
	Detail string
}

// String returns "path:line: rule: detail", which editors can follow.
func (v Violation) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", v.Path, v.Line, v.Rule, v.Detail)
}

// Check runs every rule over the tree. The result is sorted by path.
func (t *Tree) Check() []Violation {
	var found []Violation
	for _, rule := range []func(*Tree) []Violation{
		checkImports, checkFenced, checkTestOnly, checkExit, checkSleep, checkName, checkSize, checkFiles, checkDoc, checkLeak,
		checkNullList, checkComponent, checkTypes,
	} {
		found = append(found, rule(t)...)
	}
	slices.SortFunc(found, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Rule, b.Rule))
	})
	return found
}
