package e2e_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func warned(s control.Status, code, about string) bool {
	for _, w := range s.Warnings {
		if w.Code == code && strings.Contains(w.Detail, about) {
			return true
		}
	}
	return false
}

// The slow view takes seconds to refresh, which its readers must never meet; the others
// are refreshed, emptied and filled on the source while the run follows.
func TestMaterialisedViewsAreTheSourcesAndNoReaderWaitsForARefresh(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	source := pgtest.Conn(t, s.source)
	pgtest.Exec(t, source, `CREATE TABLE public.t (id int PRIMARY KEY, n int); INSERT INTO public.t SELECT i, i FROM generate_series(1, 50) i;
		CREATE MATERIALIZED VIEW public.slow AS SELECT sum(n)::int AS n FROM public.t, LATERAL (SELECT pg_catalog.pg_sleep(2) WHERE public.t.id = 1 OR public.t.id > 1) x WHERE public.t.id = 1;
		CREATE MATERIALIZED VIEW public.stale AS SELECT count(*)::int AS n FROM public.t;
		CREATE MATERIALIZED VIEW public.plain AS SELECT count(*)::int AS n FROM public.t;
		CREATE MATERIALIZED VIEW public.gentle AS SELECT id, n FROM public.t; CREATE UNIQUE INDEX ON public.gentle (id);
		CREATE MATERIALIZED VIEW public.above AS SELECT sum(n)::int AS n FROM public.gentle;
		CREATE MATERIALIZED VIEW public.never AS SELECT count(*) AS n FROM public.t WITH NO DATA;
		CREATE MATERIALIZED VIEW public.emptied AS SELECT count(*) AS n FROM public.t;
		CREATE MATERIALIZED VIEW public.later AS SELECT count(*)::int AS n FROM public.t WITH NO DATA;
		INSERT INTO public.t VALUES (1000, 1000)`)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	st := p.await("it names a stale view", func(s control.Status) bool { return warned(s, "matview_differs", "public.stale") })
	require.False(t, warned(st, "matview_differs", "public.slow"))

	pgtest.Exec(t, source, `INSERT INTO public.t VALUES (1001, 1), (1002, 2)`)
	for _, sql := range []string{`REFRESH MATERIALIZED VIEW public.plain`, `REFRESH MATERIALIZED VIEW CONCURRENTLY public.gentle`,
		`REFRESH MATERIALIZED VIEW public.emptied WITH NO DATA`, `REFRESH MATERIALIZED VIEW public.later`} {
		pgtest.Exec(t, source, sql)
	}
	target := pgtest.Conn(t, s.target)
	_, err := awaitRow(target, `SELECT 1 WHERE (SELECT n FROM public.plain) = 53 AND (SELECT count(*) FROM public.gentle) = 53
		AND NOT (SELECT relispopulated FROM pg_class WHERE oid = 'public.emptied'::regclass)`)
	require.NoError(t, err)
	_, err = awaitRow(target, `SELECT 1 FROM pg_class WHERE oid = 'public.later'::regclass AND relispopulated`)
	require.NoError(t, err) // to read it before that is an error
	_, err = awaitRow(target, `SELECT n FROM public.later WHERE n = 53`)
	require.NoError(t, err)
	// What is stale on the source and what it says to do.
	pgtest.Exec(t, source, `REFRESH MATERIALIZED VIEW public.stale`)
	_, err = awaitRow(target, `SELECT 1 FROM public.stale WHERE n = 53`) // before the rows go that it counts
	require.NoError(t, err)
	p.await("the stale view is not stale any more", func(s control.Status) bool { return !warned(s, "matview_differs", "public.stale") })
	pgtest.Exec(t, source, `REFRESH MATERIALIZED VIEW public.above; DELETE FROM public.t WHERE id < 40`)
	p.await("all is as on the source", func(s control.Status) bool { return s.Ready && len(s.Warnings) == 0 })

	const files = `SELECT string_agg(relname || xmin::text || ' ' || relfilenode, ', ' ORDER BY relname) FROM pg_class WHERE relkind = 'm'`
	before := pgtest.Value(t, target, files)
	var readers []*pgx.Conn
	for range 3 {
		readers = append(readers, application(t, p, longestWait))
	}
	b := keepBusy(readers, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `SELECT * FROM public.slow, public.stale, public.above, public.gentle`)
		return err
	})
	r := p.cutover()
	require.EqualValues(t, "switched", r.Outcome, r.Reason)
	p.awaitWhole()
	b.end(t)
	require.Equal(t, before, pgtest.Value(t, target, files), "nothing is refreshed in front of readers")
	for _, v := range []string{"slow", "stale", "plain", "gentle", "above", "later"} {
		sql := `SELECT string_agg(v::text, ' ' ORDER BY v::text) FROM public.` + v + ` v`
		require.Equal(t, pgtest.Value(t, source, sql), pgtest.Value(t, target, sql), v)
	}
	const populated = `SELECT string_agg(relname || relispopulated, ', ' ORDER BY relname) FROM pg_class WHERE relkind = 'm'`
	require.Equal(t, pgtest.Value(t, source, populated), pgtest.Value(t, target, populated))
	require.Equal(t, 0, p.stop())
}

// On the target the view takes half a minute, in which it reads a table that the source
// truncates: the stream does not wait for it.
func TestTheStreamDoesNotWaitForAMaterialisedView(t *testing.T) {
	t.Parallel()
	sampleOnly(t)
	s := newSides(t)
	source, target := pgtest.Conn(t, s.source), pgtest.Conn(t, s.target)
	pgtest.Exec(t, source, `CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t SELECT generate_series(1, 10);
		CREATE MATERIALIZED VIEW public.slow AS SELECT count(*)::int AS n FROM public.t,
			LATERAL (SELECT pg_sleep(CASE WHEN current_setting('neon.endpoint_id', true) <> '' AND public.t.id = 1 THEN 30 ELSE 0 END)) x WITH NO DATA`)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	pgtest.Exec(t, source, `REFRESH MATERIALIZED VIEW public.slow`)
	_, err := awaitRow(target, `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE '%REFRESH MATERIALIZED VIEW%' AND wait_event = 'PgSleep'`)
	require.NoError(t, err)
	p.await("it names the view that is not filled yet", func(st control.Status) bool {
		return !st.Ready && slices.ContainsFunc(st.Blockers, func(b control.Blocker) bool { return strings.HasPrefix(b.Code, "matview_") })
	})
	begun := time.Now()
	pgtest.Exec(t, source, `TRUNCATE public.t`)
	_, err = awaitRow(target, `SELECT 1 WHERE NOT EXISTS (SELECT FROM public.t)`)
	require.NoError(t, err)
	require.Less(t, time.Since(begun), 20*time.Second)
	// Without rows it takes no time any more.
	pgtest.Exec(t, source, `REFRESH MATERIALIZED VIEW public.slow`)
	p.awaitFollowing()
	require.Equal(t, "0", pgtest.Value(t, target, `SELECT n FROM public.slow`))
	require.Equal(t, 0, p.stop())
}
