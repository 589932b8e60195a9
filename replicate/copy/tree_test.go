package copy

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// moods is a tree whose leaves depend on the numbers of an enum's values, which are
// others on the target.
const moods = `CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j');
	CREATE TABLE tree (id int, m mood, v text, PRIMARY KEY (id, m)) PARTITION BY HASH (m);
	CREATE TABLE tree_0 PARTITION OF tree FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE tree_1 (v text, id int NOT NULL, m mood NOT NULL); ALTER TABLE tree ATTACH PARTITION tree_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
	CREATE TABLE plain (id int PRIMARY KEY, v text)`

const fillMoods = `INSERT INTO tree SELECT i, (enum_range(NULL::mood))[1 + i % 10], repeat(md5(i::text), 4) FROM generate_series(1, 20000) i;
	INSERT INTO plain SELECT i, 'p' FROM generate_series(1, 100) i`

// scattered is a fixture in which the target has given the enum's values other numbers.
func scattered(t *testing.T) (*fixture, Config) {
	t.Helper()
	f := newFixture(t, "CREATE TABLE first ()")
	pgtest.Exec(t, f.source, "DROP TABLE first; "+moods)
	pgtest.Exec(t, f.target, "DROP TABLE first; "+moods)
	for pgtest.Value(t, f.source, ofLeaf) == pgtest.Value(t, f.target, ofLeaf) { // one time in a thousand
		pgtest.Exec(t, f.target, "DROP TABLE tree, plain; DROP TYPE mood; CREATE TYPE mood AS ENUM ('x'); DROP TYPE mood; "+moods)
	}
	pgtest.Exec(t, f.source, fillMoods)
	cfg := f.config(false)
	return f, through(cfg)
}

func through(cfg Config) Config {
	for i, t := range cfg.Tables {
		if t.Name.Name != "plain" {
			cfg.Tables[i].Through = pg.Name{Schema: "public", Name: "tree"}
		}
	}
	return cfg
}

// ofLeaf are the values that a leaf takes.
const ofLeaf = `SELECT coalesce(string_agg(m::text, ' ' ORDER BY m), '') FROM unnest(enum_range(NULL::public.mood)) m WHERE satisfies_hash_partition('public.tree'::regclass, 2, 0, m)`

const ofTree = `SELECT count(*) || ' ' || md5(string_agg((id, m, v)::text, E'\n' ORDER BY (id, m, v)::text COLLATE "C")) FROM public.tree`

func (f *fixture) requireTree() {
	f.t.Helper()
	require.Equal(f.t, pgtest.Value(f.t, f.source, ofTree), pgtest.Value(f.t, f.target, ofTree))
}

func TestATreeThatTheTargetRoutesOtherwise(t *testing.T) {
	t.Parallel()
	f, cfg := scattered(t)
	plain := cfg
	plain.Tables = append([]Table{}, cfg.Tables...)
	for i := range plain.Tables {
		plain.Tables[i].Through = pg.Name{}
	}
	var mu sync.Mutex
	var told []string
	var copied []int64 // leaves that were, whenever one was announced
	cfg.OnCopied = func(c Copied) {
		mu.Lock()
		defer mu.Unlock()
		if told = append(told, c.Table.Name.Name); c.Table.Through.Name != "" {
			copied = append(copied, f.countState(stateCopied))
		}
	}
	require.NoError(t, f.copier(cfg).Run(f.context()))
	f.requireTree()
	f.requireEqual("plain")
	require.ElementsMatch(t, []string{"tree_0", "tree_1", "plain"}, told)
	require.Equal(t, []int64{2, 2}, copied, "no leaf is announced before the whole tree is copied")

	// Each leaf into the leaf of its name is what the target refuses.
	pgtest.Exec(t, f.target, "TRUNCATE tree; TRUNCATE plain; TRUNCATE crossfade.relation; TRUNCATE crossfade.chunk")
	require.ErrorContains(t, f.copier(plain).Run(f.context()), "23514")
}

func (f *fixture) countState(state string) int64 {
	conn, err := pg.Connect(context.Background(), f.targetDSN)
	require.NoError(f.t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	var n int64
	require.NoError(f.t, conn.QueryRow(context.Background(), "SELECT count(*) FROM crossfade.relation WHERE state = $1 AND via_rel <> ''", state).Scan(&n))
	return n
}

func TestATreeGoesOnUnderItsSnapshotAndBeginsAgainUnderAnother(t *testing.T) {
	t.Parallel()
	f, _ := scattered(t)
	cfg := through(f.followed(map[string][]string{"plain": {"id"}}))
	f.interrupted(cfg, 4)
	require.Equal(t, "2", pgtest.Value(t, f.target, "SELECT count(*) FROM crossfade.relation WHERE via_rel = 'tree'"))
	pgtest.Exec(t, f.source, "UPDATE tree SET m = 'a' WHERE m = 'b'; DELETE FROM tree WHERE id % 7 = 0; INSERT INTO tree VALUES (30000, 'c', 'new')")
	next := f.another(cfg)
	for i := range next.Tables { // what was recorded first holds
		next.Tables[i].Through = pg.Name{}
	}
	c := f.copier(next)
	require.NoError(t, c.Run(f.context()))
	f.requireTree()
	require.Equal(t, "1", pgtest.Value(t, f.target, "SELECT count(DISTINCT snapshot) FROM crossfade.relation WHERE via_rel = 'tree'"))
	require.Equal(t, next.Snapshot.Text(), pgtest.Value(t, f.target, "SELECT min(snapshot) FROM crossfade.relation WHERE via_rel = 'tree'"))
}

// TestATreeOfWhichALeafIsRewritten is truncated, in part, after the snapshot.
func TestATreeOfWhichALeafIsRewritten(t *testing.T) {
	t.Parallel()
	f, _ := scattered(t)
	cfg := through(f.followed(map[string][]string{"plain": {"id"}}))
	before := cfg.Snapshot.Text()
	pgtest.Exec(t, f.source, "VACUUM FULL tree_0")
	pgtest.Exec(t, f.source, "TRUNCATE tree_1")
	c := f.copier(cfg)
	require.NoError(t, c.Run(f.context()))
	f.requireTree()
	require.Equal(t, "1", pgtest.Value(t, f.target, "SELECT count(DISTINCT snapshot) FROM crossfade.relation WHERE via_rel = 'tree'"))
	require.NotEqual(t, before, pgtest.Value(t, f.target, "SELECT min(snapshot) FROM crossfade.relation WHERE via_rel = 'tree'"))
	require.Equal(t, before, pgtest.Value(t, f.target, "SELECT snapshot FROM crossfade.relation WHERE rel = 'plain'"))
}
