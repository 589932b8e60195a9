package daemon

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/watch"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// What the stream leaves out on purpose is no table that somebody dropped; what comes to
// be logged, or is made, is followed by nobody.
func TestUnloggedTablesAreCoveredByTheirCopy(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	pgtest.Exec(t, b.source, `CREATE UNLOGGED TABLE public.cache (id int PRIMARY KEY)`)
	pgtest.Exec(t, b.target, `INSERT INTO crossfade.relation (relid, nsp, rel, state) VALUES (`+
		pgtest.Value(t, b.source, `SELECT 'public.cache'::regclass::oid`)+`, 'public', 'cache', 'copied')`)
	require.NoError(t, b.src.cover.Load(t.Context(), b.target))
	ask := func() []watch.Notice {
		t.Helper()
		found, err := b.src.cover.Ask(t.Context(), b.source, b.target)
		require.NoError(t, err)
		return found
	}
	require.Empty(t, ask())
	require.NoError(t, b.src.cover.Check(t.Context(), b.source))

	pgtest.Exec(t, b.source, `ALTER TABLE public.cache SET LOGGED`)
	found := ask()
	require.Len(t, found, 1)
	require.False(t, found[0].Warns)
	require.Contains(t, found[0].Detail, "public.cache was unlogged when the migration began and is logged now")
	require.ErrorContains(t, b.src.cover.Check(t.Context(), b.source), "is logged now")
	typed(t, b.source, found[0].Remedy, "source")
	require.Empty(t, ask())

	pgtest.Exec(t, b.source, `CREATE UNLOGGED TABLE public.late (id int)`)
	found = ask()
	require.Len(t, found, 1)
	require.Contains(t, found[0].Detail, "public.late was made since")
	pgtest.Exec(t, b.source, `DROP TABLE public.late`)
	require.Empty(t, ask())

	pgtest.Exec(t, b.source, `DROP TABLE public.cache`)
	found = ask()
	require.Len(t, found, 1)
	require.Contains(t, found[0].Detail, "public.cache was dropped since the migration began")
}
