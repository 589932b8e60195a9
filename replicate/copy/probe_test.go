package copy

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/snapshot"
)

// The speed of a stream is known before a large table is cut, and nothing is left of what told it.
func TestProbeMeasuresAndLeavesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, `CREATE TABLE big (id int NOT NULL, twice int GENERATED ALWAYS AS (id * 2) STORED, t text)`)
	pgtest.Exec(t, f.source, "INSERT INTO big (id, t) SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, 60000) i")
	cfg := f.config(false)
	cfg.ChunkBytes = 0
	h, err := snapshot.Export(f.context(), cfg.Source)
	require.NoError(t, err)
	defer h.Close()
	c := f.copier(cfg)
	r := &run{cfg: &c.cfg, counters: &c.counters, yielder: snapshot.NewYielder(cfg.Source), sizer: newSizer(&c.cfg)}
	known, err := readFacts(f.context(), f.source, h, []uint32{cfg.Tables[0].OID}, cfg.SourceLockTimeout)
	require.NoError(t, err)
	rel := &relation{table: cfg.Tables[0], size: known[cfg.Tables[0].OID].bytes, pass: &pass{holder: h, facts: known[cfg.Tables[0].OID]}}

	r.probe(f.context(), rel)
	require.False(t, r.sizer.sure, "a small table is worth no probe")
	rel.size = probedTable
	r.probe(f.context(), rel)
	require.True(t, r.sizer.sure)
	require.NotEqual(t, float64(firstRate), r.sizer.rate)
	require.Positive(t, r.sizer.rate)
	eventually(t, func() bool { // the server notices the end of a session when it looks
		return pgtest.Value(t, f.target, "SELECT count(*) FROM pg_class WHERE relname LIKE 'probe%'") == "0"
	})
	require.Equal(t, "0", pgtest.Value(t, f.target, "SELECT count(*) FROM big"))
	require.Equal(t, "0", pgtest.Value(t, f.target, "SELECT count(*) FROM crossfade.chunk"))
	require.Zero(t, c.Progress().BytesDone)

	r.sizer = newSizer(&c.cfg)
	rel.table.Name = pg.Name{Schema: "public", Name: "nowhere"}
	r.probe(f.context(), rel)
	require.False(t, r.sizer.sure, "what cannot be measured is left to the chunks")
}
