package apply_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
)

// moods is a tree that hashes by an enum, whose values have other numbers on the
// target. One leaf has another order of columns.
const moods = `CREATE TYPE public.mood AS ENUM ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j');
	CREATE TABLE public.tree (id int, m public.mood, v text%[1]s) PARTITION BY HASH (m);
	CREATE TABLE public.tree_0 PARTITION OF public.tree FOR VALUES WITH (MODULUS 3, REMAINDER 0);
	CREATE TABLE public.tree_1 (v text, m public.mood%[2]s, id int%[2]s); ALTER TABLE public.tree ATTACH PARTITION public.tree_1 FOR VALUES WITH (MODULUS 3, REMAINDER 1);
	CREATE TABLE public.tree_2 PARTITION OF public.tree FOR VALUES WITH (MODULUS 3, REMAINDER 2)`

// scattered is a world in which the target routes the rows of a tree otherwise.
func scattered(t *testing.T, key, notNull, more string) *world {
	t.Helper()
	w := newWorld(t, `CREATE TABLE public.plain (id int PRIMARY KEY)`, `INSERT INTO public.plain VALUES (1)`)
	ddl := fmt.Sprintf(moods, key, notNull) + ";" + more + `; INSERT INTO public.tree SELECT i, (enum_range(NULL::public.mood))[1 + i % 10], 'v' || i FROM generate_series(1, 200) i`
	pgtest.Exec(t, w.src, ddl+"; ALTER PUBLICATION crossfade ADD TABLE public.tree_0, public.tree_1, public.tree_2")
	pgtest.Exec(t, w.dst, ddl)
	for rows(t, w.src, "public.tree_0") == rows(t, w.dst, "public.tree_0") { // one time in thousands
		pgtest.Exec(t, w.dst, "DROP TABLE public.tree; DROP TYPE public.mood; CREATE TYPE public.mood AS ENUM ('x'); DROP TYPE public.mood; "+ddl)
	}
	return w
}

func (w *world) routes(cfg *apply.Config) {
	cfg.Routes = map[uint32]pg.Name{}
	for _, leaf := range []string{"tree_0", "tree_1", "tree_2"} {
		var oid uint32
		require.NoError(w.t, w.src.QueryRow(w.t.Context(), `SELECT ('public.' || $1::text)::regclass::oid`, leaf).Scan(&oid))
		cfg.Routes[oid] = pg.Name{Schema: "public", Name: "tree"}
	}
}

func (w *world) sameTree() {
	w.t.Helper()
	const all = `SELECT string_agg((id, m, v)::text, E'\n' ORDER BY (id, m, v)::text COLLATE "C") FROM public.tree`
	require.Equal(w.t, pgtest.Value(w.t, w.src, all), pgtest.Value(w.t, w.dst, all))
}

func TestRowsThatTheTargetRoutesOtherwise(t *testing.T) {
	t.Parallel()
	w := scattered(t, ", PRIMARY KEY (id, m)", " NOT NULL", "")
	r := w.follow(w.routes)
	w.do(`INSERT INTO public.tree SELECT i, (enum_range(NULL::public.mood))[1 + i % 10], 'new' FROM generate_series(300, 350) i;
		UPDATE public.tree SET v = v || '!' WHERE id % 3 = 0; DELETE FROM public.tree WHERE id % 11 = 0`)
	// Rows that move between leaves here, and back, and others take their place.
	w.do(`UPDATE public.tree SET m = 'a' WHERE id % 7 = 0; UPDATE public.tree SET m = 'j' WHERE id % 14 = 0; DELETE FROM public.tree WHERE id = 21; INSERT INTO public.tree VALUES (21, 'a', 'again'), (21, 'b', 'too');
		UPDATE public.tree SET id = -id WHERE id BETWEEN 40 AND 60`)
	w.drain(r)
	w.sameTree()
	require.Zero(t, r.Status().Replays)
	w.do(`TRUNCATE public.tree; INSERT INTO public.tree VALUES (1, 'c', 'after'), (2, 'd', 'after'), (3, 'e', 'after'), (4, 'f', 'after'), (5, 'g', 'after')`)
	w.drain(r)
	require.Equal(t, "5", pgtest.Value(t, w.dst, "SELECT count(*) FROM public.tree"))

	// What lay in one leaf cannot be told on the target.
	w.do(`TRUNCATE public.tree_0`)
	err := r.result()
	var scattered *apply.ScatteredError
	require.ErrorAs(t, err, &scattered)
	require.ErrorContains(t, err, "public.tree_0")
	require.ErrorContains(t, err, "TRUNCATE the whole of public.tree")
	require.Equal(t, "5", pgtest.Value(t, w.dst, "SELECT count(*) FROM public.tree"))
}

// TestRowsWithoutAKeyThatTheTargetRoutesOtherwise has leaves with other replica
// identities, so that their changes cannot be merged.
func TestRowsWithoutAKeyThatTheTargetRoutesOtherwise(t *testing.T) {
	t.Parallel()
	w := scattered(t, "", "", `ALTER TABLE public.tree_0 REPLICA IDENTITY FULL; ALTER TABLE public.tree_1 REPLICA IDENTITY FULL;
		CREATE UNIQUE INDEX ON public.tree (m, id); ALTER TABLE public.tree ALTER m SET NOT NULL, ALTER id SET NOT NULL; ALTER TABLE public.tree_2 REPLICA IDENTITY USING INDEX tree_2_m_id_idx`)
	r := w.follow(w.routes)
	w.do(`UPDATE public.tree SET v = 'x' WHERE id < 50; UPDATE public.tree SET m = 'a' WHERE id BETWEEN 20 AND 90; UPDATE public.tree SET m = 'd' WHERE m = 'a'; UPDATE public.tree SET m = 'f' WHERE id % 4 = 0; DELETE FROM public.tree WHERE id % 9 = 0`)
	w.drain(r)
	w.sameTree()
}

// TestALeafOfItsOwnIsWhatTheTargetRefuses is what happens without a route.
func TestALeafOfItsOwnIsWhatTheTargetRefuses(t *testing.T) {
	t.Parallel()
	w := scattered(t, ", PRIMARY KEY (id, m)", " NOT NULL", "")
	r := w.follow()
	w.do(`INSERT INTO public.tree SELECT i, (enum_range(NULL::public.mood))[1 + i % 10], 'new' FROM generate_series(300, 350) i`)
	require.ErrorContains(t, r.result(), "23514")
}
