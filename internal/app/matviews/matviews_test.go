package matviews

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/apptest"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/catalog"
)

// What keeps a materialised view of the target from being as the source's is told once, and goes as
// printed.
func TestAViewThatIsNotAsTheSourcesIsToldUntilItIs(t *testing.T) {
	t.Parallel()
	sides := map[string]pg.DSN{"source": pgtest.Database(t, pgtest.Shared(t, pgtest.Source)), "target": pgtest.Database(t, pgtest.Shared(t, pgtest.Target))}
	conns := map[string]*pgx.Conn{}
	for side, d := range sides {
		conns[side] = pgtest.Conn(t, d)
		pgtest.Exec(t, conns[side], `CREATE TABLE public.a (id int PRIMARY KEY); INSERT INTO public.a VALUES (1);
			CREATE MATERIALIZED VIEW public."m v" AS SELECT id, 10 / (SELECT count(*) FROM public.a) AS share FROM public.a WITH NO DATA`)
	}
	source, target := conns["source"], conns["target"]
	pgtest.Exec(t, source, `REFRESH MATERIALIZED VIEW public."m v"`)
	db, err := catalog.Read(t.Context(), source)
	require.NoError(t, err)
	connect := func(side string) func(context.Context) (*pgx.Conn, error) {
		return func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, sides[side]) }
	}
	link := dbconn.New(sides["source"])
	t.Cleanup(link.Close)
	m := &Keeper{Source: link, OnSource: connect("source"), OnSide: connect("target"), Views: func() []catalog.MatView { return db.MatViews }, May: func(bool) bool { return true },
		Arming: func() bool { return false }, CaughtUp: func(context.Context) error { return nil }, Path: func() string { return "" }, log: zerolog.Nop(), wake: make(chan struct{}, 1),
		settled: map[uint32]settledView{}, failed: map[uint32]failedView{}, waited: map[uint32]string{}}
	ask := func() []watch.Notice {
		t.Helper()
		found, err := m.Ask(t.Context(), source, target)
		require.NoError(t, err)
		return found
	}
	gone := func() {
		t.Helper()
		m.mu.Lock()
		clear(m.failed) // its time is up
		m.mu.Unlock()
		require.Eventually(t, func() bool { return len(ask()) == 0 }, pgtest.Timeout, 10*time.Millisecond)
	}

	n := apptest.Once(t, ask(), "matview_pending", "nobody fills it yet")
	require.False(t, n.Warns)
	require.Contains(t, n.Detail, "public.m v has not been compared with the source's yet")
	require.Equal(t, "wait: crossfade run refreshes it by itself", n.Remedy)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	gone()

	pgtest.Exec(t, target, "DELETE FROM public.a")
	pgtest.Exec(t, target, `ALTER MATERIALIZED VIEW public."m v" RENAME TO away`) // the cause
	pgtest.Exec(t, source, `REFRESH MATERIALIZED VIEW public."m v"`)
	require.Eventually(t, func() bool { f := ask(); return len(f) == 1 && f[0].Code == "matview_failed" }, pgtest.Timeout, 10*time.Millisecond)
	n = apptest.Once(t, ask(), "matview_failed", "it cannot be filled")
	require.False(t, n.Warns)
	require.Contains(t, n.Detail, `materialised view public.m v cannot be filled on the target: `)
	pgtest.Exec(t, target, `ALTER MATERIALIZED VIEW public.away RENAME TO "m v"; INSERT INTO public.a VALUES (1)`)
	gone()

	// The source's rows are of a moment that has passed.
	pgtest.Exec(t, target, "INSERT INTO public.a VALUES (2)")
	pgtest.Exec(t, source, `REFRESH MATERIALIZED VIEW public."m v"; INSERT INTO public.a VALUES (2)`)
	require.Eventually(t, func() bool { f := ask(); return len(f) == 1 && f[0].Code == "matview_differs" }, pgtest.Timeout, 10*time.Millisecond)
	n = apptest.Once(t, ask(), "matview_differs", "other rows")
	require.True(t, n.Warns)
	require.Contains(t, n.Detail, "public.m v has other rows on the target")
	apptest.Typed(t, source, n.Remedy, "source")
	gone()

	// A query that fails on the target alone.
	pgtest.Exec(t, target, "DELETE FROM public.a")
	pgtest.Exec(t, target, `INSERT INTO public.a SELECT generate_series(1, 0)`)
	pgtest.Exec(t, target, `DROP MATERIALIZED VIEW public."m v"; CREATE MATERIALIZED VIEW public."m v" AS SELECT id, 10 / (SELECT count(*) FROM public.a) AS share FROM (VALUES (1)) v (id) WITH NO DATA`)
	pgtest.Exec(t, source, `REFRESH MATERIALIZED VIEW public."m v"`)
	require.Eventually(t, func() bool { f := ask(); return len(f) == 1 && f[0].Code == "matview_failed" }, pgtest.Timeout, 10*time.Millisecond)
	n = apptest.Once(t, ask(), "matview_failed", "its query fails")
	require.Contains(t, n.Detail, "division by zero")
	apptest.Typed(t, source, n.Remedy, "source")
	gone()
}
