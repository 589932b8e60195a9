package daemon

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/apptest"
	"crossfade/internal/app/watch"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestChangesOfUnloggedTablesAreNamed(t *testing.T) {
	t.Parallel()
	b := newExtrasFixture(t)
	pgtest.Exec(t, b.Source, `CREATE UNLOGGED TABLE public.cache (id int PRIMARY KEY, v text); CREATE UNLOGGED TABLE public.still (id int); INSERT INTO public.cache SELECT n, 'v' FROM generate_series(1, 10) n`)
	pgtest.Exec(t, b.Target, `CREATE TABLE public.cache (id int PRIMARY KEY, v text); CREATE TABLE public.still (id int); INSERT INTO public.cache SELECT n, 'v' FROM generate_series(1, 10) n`)
	snap := pgtest.Value(t, b.Source, `SELECT pg_current_snapshot()`)
	for _, name := range []string{"cache", "still"} {
		pgtest.Exec(t, b.Target, `INSERT INTO crossfade.relation (relid, nsp, rel, state, snapshot) VALUES (`+pgtest.Value(t, b.Source, `SELECT 'public.`+name+`'::regclass::oid`)+`, 'public', '`+name+`', 'copied', '`+snap+`')`)
	}
	require.Empty(t, b.ask("unlogged tables"))
	for _, sql := range []string{`INSERT INTO public.cache VALUES (11)`, `UPDATE public.cache SET v = 'w' WHERE id = 1`, `DELETE FROM public.cache WHERE id = 2`} {
		pgtest.Exec(t, b.Source, `BEGIN; `+sql)
		require.Empty(t, b.ask("unlogged tables"), "not committed: %s", sql)
		pgtest.Exec(t, b.Source, `ROLLBACK`)
		require.Empty(t, b.ask("unlogged tables"), "rolled back: %s", sql)
	}
	for _, sql := range []string{`UPDATE public.cache SET v = 'w' WHERE id = 1`, `DELETE FROM public.cache WHERE id = 1`, `INSERT INTO public.cache VALUES (1, 'v')`, `TRUNCATE public.cache`} {
		pgtest.Exec(t, b.Source, sql)
		found := b.ask("unlogged tables")
		require.Len(t, found, 1, sql)
		require.True(t, found[0].Warns, "check has named it as well")
		require.Contains(t, found[0].Detail, "public.cache")
		require.NotContains(t, found[0].Detail, "public.still")
		require.Contains(t, found[0].Remedy, "SET LOGGED")
	}
	n := apptest.Once(t, b.ask("unlogged tables"), "unlogged_changed", "told once")
	require.Contains(t, n.Remedy, "; then "+watch.StartOver)
	apptest.Typed(t, b.Source, n.Remedy, "source")
	require.Empty(t, b.ask("unlogged tables"), "a table that is logged is another watcher's, until it is started over")
}

// A table that nobody can read through in time is not known, which is said, and no more than that.
func TestAnUnloggedTableThatIsNotReadInTimeIsNamed(t *testing.T) {
	t.Parallel()
	b := newExtrasFixture(t)
	pgtest.Exec(t, b.Source, `CREATE UNLOGGED TABLE public."big one" (id int)`)
	pgtest.Exec(t, b.Target, `CREATE TABLE public."big one" (id int)`)
	pgtest.Exec(t, b.Target, `INSERT INTO crossfade.relation (relid, nsp, rel, state, snapshot) VALUES ($1, 'public', 'big one', 'copied', $2)`,
		pgtest.Value(t, b.Source, `SELECT 'public."big one"'::regclass::oid`), pgtest.Value(t, b.Source, `SELECT pg_current_snapshot()`))
	source := pgtest.Conn(t, b.SourceDSN) // without a bound on lock waits of its own
	var found []watch.Notice
	b.cannotBeRead(`public."big one"`, func() {
		var err error
		found, err = watch.AskUnlogged(t.Context(), source, b.Target)
		require.NoError(t, err)
	})
	n := apptest.Once(t, found, "unlogged_unseen", "told once")
	require.True(t, n.Warns)
	require.Contains(t, n.Detail, "too large to be looked through within 2s")
	require.Contains(t, n.Detail, "public.big one")
	apptest.Typed(t, b.Source, n.Remedy, "source")
	require.Empty(t, b.ask("unlogged tables"))
}
