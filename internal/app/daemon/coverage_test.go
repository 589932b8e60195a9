package daemon

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/apptest"
	"crossfade/internal/app/watch"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// What the stream leaves out on purpose is no table that someone dropped; what comes to be logged,
// or is made, is followed by nobody.
func TestUnloggedTablesAreCoveredByTheirCopy(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	pgtest.Exec(t, b.Source, `CREATE UNLOGGED TABLE public.cache (id int PRIMARY KEY)`)
	pgtest.Exec(t, b.Target, `INSERT INTO crossfade.relation (relid, nsp, rel, state) VALUES (`+
		pgtest.Value(t, b.Source, `SELECT 'public.cache'::regclass::oid`)+`, 'public', 'cache', 'copied')`)
	require.NoError(t, b.Cover.Load(t.Context(), b.Target))
	ask := func() []watch.Notice {
		t.Helper()
		found, err := b.Cover.Ask(t.Context(), b.Source, b.Target)
		require.NoError(t, err)
		return found
	}
	require.Empty(t, ask())
	require.NoError(t, b.Cover.Check(t.Context(), b.Source))

	pgtest.Exec(t, b.Source, `ALTER TABLE public.cache SET LOGGED`)
	found := ask()
	require.Len(t, found, 1)
	require.False(t, found[0].Warns)
	require.Contains(t, found[0].Detail, "public.cache was unlogged when the migration began and is logged now")
	require.ErrorContains(t, b.Cover.Check(t.Context(), b.Source), "is logged now")
	apptest.Typed(t, b.Source, found[0].Remedy, "source")
	require.Empty(t, ask())

	pgtest.Exec(t, b.Source, `CREATE UNLOGGED TABLE public.late (id int)`)
	found = ask()
	require.Len(t, found, 1)
	require.Contains(t, found[0].Detail, "public.late was made since")
	pgtest.Exec(t, b.Source, `DROP TABLE public.late`)
	require.Empty(t, ask())

	pgtest.Exec(t, b.Source, `DROP TABLE public.cache`)
	found = ask()
	require.Len(t, found, 1)
	require.Contains(t, found[0].Detail, "public.cache was dropped since the migration began")
}
