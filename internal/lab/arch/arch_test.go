package arch

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// module reads the module's path, so that the test does not repeat it.
func module(t *testing.T, root string) string {
	t.Helper()
	gomod, err := os.ReadFile(root + "/go.mod")
	require.NoError(t, err)
	for line := range strings.Lines(string(gomod)) {
		if name, ok := strings.CutPrefix(line, "module "); ok {
			return strings.TrimSpace(name)
		}
	}
	t.Fatal("go.mod names no module")
	return ""
}

func TestTheCodeKeepsItsRules(t *testing.T) {
	t.Parallel()
	const root = "../../.."
	tree, err := Load(os.DirFS(root), module(t, root))
	require.NoError(t, err)
	require.NotEmpty(t, tree.Files, "the checker sees the repository")
	for _, v := range tree.Check() {
		t.Error(v)
	}
}
