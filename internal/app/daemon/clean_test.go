package daemon

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/database"
	"crossfade/internal/app/apptest"
	"crossfade/internal/app/undo"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// What was typed on the target as a remedy printed it is there because of the run: clean takes it
// away with the rest, so that the next run finds the target empty.
func TestCleanRemovesWhatWasTypedAsItWasPrinted(t *testing.T) {
	t.Parallel()
	w := apptest.NewWatched(t, apptest.WatchedTables+`; CREATE SEQUENCE public.sq; CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY)`)
	require.Empty(t, w.Told(w.Comparer.Ask))
	for _, sql := range []string{"CREATE VIEW public.seen AS SELECT id FROM public.a", "CREATE SCHEMA fresh; CREATE FUNCTION fresh.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE TYPE public.mood AS ENUM ('a')",
		"ALTER SEQUENCE public.sq RENAME TO sq2", "CREATE MATERIALIZED VIEW fresh.m AS SELECT id FROM public.seen", "CREATE INDEX more ON public.a (v)", "ALTER TABLE public.a ADD COLUMN x public.mood"} {
		pgtest.Exec(t, w.Source, sql)
		found, err := w.Comparer.Ask(t.Context(), w.Source, w.Target)
		require.NoError(t, err)
		require.NotEmpty(t, found, sql)
		for _, n := range found {
			apptest.Typed(t, w.Target, n.Remedy, "target")
		}
		require.Empty(t, w.Told(w.Comparer.Ask), sql)
	}
	var lines []string
	clean := func() error {
		return undo.Clean(t.Context(), w.SourceDSN, w.Comparer.Migration.Task.Target, true, func(line string) { lines = append(lines, line) })
	}
	// What someone made in addition is his, and so is a schema that he uses: that is said, where it
	// is in the way too.
	pgtest.Exec(t, w.Target, "CREATE TABLE app.mine (id int); CREATE VIEW app.his AS SELECT id FROM public.a")
	err := clean()
	require.ErrorContains(t, err, "someone has made on the target: view app.his depends on ")
	require.ErrorContains(t, err, "drop that there, then run crossfade clean again")
	pgtest.Exec(t, w.Target, "DROP VIEW app.his")
	require.NoError(t, clean())
	require.Contains(t, lines, "removed target: VIEW public.seen")
	require.Equal(t, "kept target: app.mine: neither the run nor the source has them; crossfade run begins in an empty database: drop them, or name another one with --target", lines[len(lines)-1])
	left, err := database.Objects(t.Context(), w.Target)
	require.NoError(t, err)
	require.Equal(t, []string{"app.mine"}, left)
	require.Equal(t, "0", pgtest.Value(t, w.Target, "SELECT count(*) FROM pg_namespace WHERE nspname IN ('fresh', 'crossfade')"))
}
