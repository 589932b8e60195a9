package arch

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	namedRule   = regexp.MustCompile(`\b[CS][1-9][0-9]?\b`)
	writtenRule = regexp.MustCompile(`(?m)^\*\*([CS][1-9][0-9]?)\.`)
)

// A comment that refers to a rule by its number refers to one that docs/rules.md states.
func TestRulesThatCommentsNameAreStated(t *testing.T) {
	t.Parallel()
	const root = "../../.."
	page, err := os.ReadFile(root + "/docs/rules.md")
	require.NoError(t, err)
	stated := map[string]bool{}
	for _, m := range writtenRule.FindAllSubmatch(page, -1) {
		require.False(t, stated[string(m[1])], "rule %s is stated twice", m[1])
		stated[string(m[1])] = true
	}
	require.Len(t, stated, 28+5)
	tree, err := Load(os.DirFS(root), module(t, root))
	require.NoError(t, err)
	named := 0
	for _, f := range tree.Files {
		for _, group := range f.AST.Comments {
			for _, rule := range namedRule.FindAllString(group.Text(), -1) {
				named++
				if !f.Test {
					require.True(t, stated[rule], "%s refers to rule %s, which docs/rules.md does not state", f.Path, rule)
				}
			}
		}
	}
	require.Positive(t, named)
}
