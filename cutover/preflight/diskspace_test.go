package preflight

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/cutover/preflight/server"
	"crossfade/internal/lab/neonlike"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestDiskSpace checks a project below and above its limit.
func TestDiskSpace(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Empty(t, f.Ask(t, server.DiskSpace))

	project, err := neonlike.Start(t.Context(), false, neonlike.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, project.Close()) }()
	used, err := project.Size(t.Context())
	require.NoError(t, err)
	ask := func() []answer.Finding {
		f.TargetDSN = project.Owner
		found, err := server.DiskSpace(t.Context(), f.Pair(t))
		require.NoError(t, err)
		return found
	}
	require.NoError(t, project.SetSizeLimit(t.Context(), int(used>>20)+3)) // a database takes more than that when it is made
	found := ask()
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "project_size_limit", "target"}}, preflighttest.Short(found))
	require.Contains(t, found[0].Detail, "the project may take")
	told := func() []string {
		return slices.DeleteFunc(codesOf(f.whole(t)), func(c string) bool { return c != "project_size_limit" && c != "target_full" })
	}
	require.Equal(t, []string{"project_size_limit"}, told())
	require.NoError(t, project.SetSizeLimit(t.Context(), 1))
	found = ask()
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "target_full", "target"}}, preflighttest.Short(found))
	require.Equal(t, "takes no more rows: could not extend file because project size limit (1 MB) has been exceeded", found[0].Detail)
	require.Equal(t, []string{"target_full"}, told(), "and not what the limit is as well")
	require.NoError(t, project.SetSizeLimit(t.Context(), 0))
	require.Empty(t, told(), "the limit was raised")
	require.Empty(t, ask())
	require.Equal(t, "0", pgtest.Value(t, pgtest.Conn(t, project.Owner), "SELECT count(*) FROM pg_namespace WHERE nspname = 'crossfade_probe'"))
}
