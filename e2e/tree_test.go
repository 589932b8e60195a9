package e2e_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// The numbers of an enum's values are others on the target, so that it puts rows that
// hash by them into other leaves than the source did.
func TestATreeThatTheTargetRoutesOtherwiseIsCopiedFollowedAndCompared(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	source := pgtest.Conn(t, s.source)
	pgtest.Exec(t, source, `CREATE TYPE public.mood AS ENUM ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l');
		CREATE TABLE public.tree (id int, m public.mood, day date, v text, PRIMARY KEY (id, day, m)) PARTITION BY RANGE (day);
		CREATE TABLE public.tree_old PARTITION OF public.tree FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
		CREATE TABLE public.tree_new PARTITION OF public.tree FOR VALUES FROM ('2020-01-01') TO (MAXVALUE) PARTITION BY HASH (m);
		CREATE TABLE public.tree_0 PARTITION OF public.tree_new FOR VALUES WITH (MODULUS 3, REMAINDER 0);
		CREATE TABLE public.tree_1 (v text, m public.mood NOT NULL, day date NOT NULL, id int NOT NULL); ALTER TABLE public.tree_new ATTACH PARTITION public.tree_1 FOR VALUES WITH (MODULUS 3, REMAINDER 1);
		CREATE TABLE public.tree_2 PARTITION OF public.tree_new FOR VALUES WITH (MODULUS 3, REMAINDER 2);
		INSERT INTO public.tree SELECT i, (enum_range(NULL::public.mood))[1 + i % 12], date '2019-06-01' + i % 400, md5(i::text) FROM generate_series(1, 3000) i`)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	target := pgtest.Conn(t, s.target)
	const leaf = `SELECT string_agg(DISTINCT m::text, ' ') FROM public.tree_0`
	require.NotEqual(t, pgtest.Value(t, source, leaf), pgtest.Value(t, target, leaf), "the sides route alike, and the test shows nothing")
	require.Equal(t, "tree_new tree_new tree_new", pgtest.Value(t, target, `SELECT string_agg(via_rel, ' ') FROM crossfade.relation WHERE via_rel <> ''`))

	pgtest.Exec(t, source, `DELETE FROM public.tree WHERE id % 17 = 0; UPDATE public.tree SET day = day + 300 WHERE id % 13 = 0`)
	b := keepBusy([]*pgx.Conn{application(t, p, longestWait)}, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `WITH moved AS (UPDATE public.tree SET m = (enum_range(NULL::public.mood))[1 + (id + length(v)) % 12], v = v || '.' WHERE id % 100 = (SELECT count(*) FROM public.tree) % 100 RETURNING id)
			INSERT INTO public.tree SELECT 10000 + count(*) + (SELECT max(id) FROM public.tree), 'c', '2021-01-01', 'new' FROM moved`)
		return err
	})
	r := p.cutover()
	require.EqualValues(t, "switched", r.Outcome, r.Reason)
	p.awaitWhole()
	b.end(t)
	st := p.await("every row is compared", func(s control.Status) bool { return s.Verify.State != "running" && s.Verify.State != "none" })
	require.Equal(t, "equal", st.Verify.State)
	require.Equal(t, 2, st.Verify.TablesTotal, "the leaf that routes alike, and the others as one")
	require.Equal(t, 0, p.stop())
}

// The source sorts texts by the rules of a language, the target by their bytes.
func TestATreeByRangesOfTextThatTheTargetSortsOtherwise(t *testing.T) {
	t.Parallel()
	s := plainSides(t)
	name := "english_" + s.source.Database()
	pgtest.DatabaseAs(t, s.sourceCluster, name, s.source.User(), "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' ENCODING 'UTF8'")
	s.source = s.source.WithDatabase(name)
	pgtest.Exec(t, adminOf(t, s.sourceCluster, name), "GRANT CREATE ON SCHEMA public TO PUBLIC")
	source, target := pgtest.Conn(t, s.source), pgtest.Conn(t, s.target)
	pgtest.Exec(t, source, `CREATE TABLE public.names (name text, n int) PARTITION BY RANGE (name); CREATE TABLE public.names_a PARTITION OF public.names FOR VALUES FROM ('a') TO ('m');
		CREATE TABLE public.names_m PARTITION OF public.names FOR VALUES FROM ('m') TO ('z'); CREATE TABLE public.names_rest PARTITION OF public.names DEFAULT;
		INSERT INTO public.names SELECT CASE i % 2 WHEN 0 THEN initcap(w) ELSE w END || i, i FROM generate_series(1, 2000) i, LATERAL (SELECT (ARRAY['anna', 'berta', 'nora', 'paula'])[1 + i % 4] AS w) x`)
	out, code := s.say(t, nil, "copy")
	require.Equal(t, 0, code, out)
	const all = `SELECT count(*) || ' ' || md5(string_agg(name || n, ' ' ORDER BY n)) FROM public.names`
	require.Equal(t, pgtest.Value(t, source, all), pgtest.Value(t, target, all))
	require.Equal(t, "0", pgtest.Value(t, source, "SELECT count(*) FROM public.names_rest"))
	require.Equal(t, "1000", pgtest.Value(t, target, "SELECT count(*) FROM public.names_rest WHERE name ~ '^[A-Z]'"))

	// Bounds that are in the wrong order there refuse, by their names.
	pgtest.Exec(t, source, `CREATE TABLE public.odd (name text) PARTITION BY RANGE (name); CREATE TABLE public.odd_a PARTITION OF public.odd FOR VALUES FROM ('a') TO ('B')`)
	pgtest.Exec(t, target, `DROP TABLE public.names`)
	out, code = s.say(t, nil, "copy")
	require.Equal(t, 1, code, out)
	require.Regexp(t, `partition_bounds +public\.odd_a`, out)
}
