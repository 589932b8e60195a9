package e2e_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// oldCasts are the implicit casts to text that PostgreSQL took away in 8.3, which
// many an application has brought back, and one from text that gives what nobody
// would expect.
const oldCasts = `
	CREATE CAST (integer AS text) WITH INOUT AS IMPLICIT; CREATE CAST (smallint AS text) WITH INOUT AS IMPLICIT; CREATE CAST (bigint AS text) WITH INOUT AS IMPLICIT;
	CREATE CAST (oid AS text) WITH INOUT AS IMPLICIT; CREATE CAST (numeric AS text) WITH INOUT AS IMPLICIT; CREATE CAST (date AS text) WITH INOUT AS IMPLICIT;
	CREATE CAST (timestamptz AS text) WITH INOUT AS IMPLICIT; CREATE CAST (text AS integer) WITH INOUT AS IMPLICIT; CREATE CAST (varchar AS integer) WITH INOUT AS IMPLICIT;
	CREATE FUNCTION public.never(text) RETURNS date LANGUAGE sql IMMUTABLE AS $$ SELECT date '1900-01-01' $$; CREATE CAST (text AS date) WITH FUNCTION public.never(text)`

func TestAMigrationOfADatabaseWithCastsOfItsOwn(t *testing.T) {
	t.Parallel()
	s := plainSides(t)
	pgtest.Exec(t, adminOf(t, s.sourceCluster, s.source.Database()), oldCasts)
	s.target = s.targetCluster.AdminDSN(s.target.Database()) // who may make such casts there
	source := pgtest.Conn(t, s.source)
	pgtest.Exec(t, source, `CREATE TABLE public.days (id int PRIMARY KEY, d date, t text); INSERT INTO public.days SELECT i, date '2020-01-01' + i, i FROM generate_series(1, 500) i`)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	pgtest.Exec(t, source, `UPDATE public.days SET d = d + 1, t = t || '!' WHERE id % 2 = 0; INSERT INTO public.days VALUES (1000, '2024-02-29', 'leap'); DELETE FROM public.days WHERE id = 7`)
	app := application(t, p, longestWait)
	r := p.cutover()
	require.EqualValues(t, "switched", r.Outcome, r.Reason)
	require.Zero(t, r.ClientErrors)
	p.awaitWhole()
	st := p.await("every row is compared", func(s control.Status) bool { return s.Verify.State != "running" && s.Verify.State != "none" })
	require.Equal(t, "equal", st.Verify.State)
	const all = `SELECT md5(string_agg(format('%s %s %s', id, d, t), ',' ORDER BY id)) FROM public.days`
	require.Equal(t, pgtest.Value(t, source, all), pgtest.Value(t, app, all, pgx.QueryExecModeSimpleProtocol))
	require.Equal(t, 0, p.stop())
}
