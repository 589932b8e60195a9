package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// No stream has what unlogged tables are, whether or not they are partitions, which
// keeps nobody from a cutover, nor from finishing: what has changed in them is a warning.
func TestADatabaseWithUnloggedTablesIsCutOver(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	source := pgtest.Conn(t, s.source)
	pgtest.Exec(t, source, `CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t SELECT generate_series(1, 10);
		CREATE UNLOGGED TABLE public.cache (id int PRIMARY KEY, v text); INSERT INTO public.cache VALUES (1, 'copied'), (2, 'copied');
		CREATE TABLE public.p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE public.p1 PARTITION OF public.p FOR VALUES FROM (1) TO (10);
		CREATE UNLOGGED TABLE public.p2 PARTITION OF public.p FOR VALUES FROM (10) TO (20); INSERT INTO public.p VALUES (1), (11)`)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	app := application(t, p, longestWait)
	for _, sql := range []string{`INSERT INTO public.t VALUES (11)`, `INSERT INTO public.p VALUES (2)`, `UPDATE public.cache SET v = 'written' WHERE id = 1`} {
		pgtest.Exec(t, app, sql)
	}
	st := p.await("it tells what no stream has", func(st control.Status) bool { return warned(st, "unlogged_changed", "public.cache") })
	require.True(t, st.Ready, "%+v", st.Blockers)
	require.Empty(t, st.Blockers)
	p.cutover()
	p.awaitWhole()
	require.Equal(t, "11 2 1 copied", pgtest.Value(t, app, `SELECT (SELECT count(*) FROM public.t) || ' ' || (SELECT count(*) FROM public.p1) || ' ' || (SELECT count(*) FROM public.p2) || ' ' || (SELECT v FROM public.cache WHERE id = 1)`))
	pgtest.Exec(t, app, `UPDATE public.cache SET v = 'again'; INSERT INTO public.p VALUES (12)`)
	require.Equal(t, "equal", p.awaitServing().Verify.State, "what is followed is compared")
	p.finish()
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}
