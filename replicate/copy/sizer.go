package copy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/replicate/copy/relay"
	"crossfade/replicate/snapshot"
)

const (
	// chunkTime is how long a chunk takes: what a lost connection costs, and how
	// long a lock on the source is held.
	chunkTime = 10 * time.Second
	// smallestChunk is worth the round trips of a transaction on either side.
	smallestChunk = 16 << 20
	// largestChunk bounds the work of one transaction on the target where rows come very fast.
	largestChunk = 2 << 30
	// firstRate is assumed of a stream before one was measured, in bytes a second of
	// the table's size on disk.
	firstRate = 16 << 20
)

// sizer measures streams, and from that says how large a chunk is to be. Safe for concurrent use.
type sizer struct {
	fixed int64 // size of every chunk, if not 0
	jobs  int64

	mu   sync.Mutex
	rate float64 // of one stream, in bytes a second
	sure bool    // it was measured
}

func newSizer(cfg *Config) *sizer {
	return &sizer{fixed: cfg.ChunkBytes, jobs: int64(cfg.Jobs), rate: firstRate}
}

// note takes in how long a chunk took. Short ones are mostly round trips.
func (z *sizer) note(bytes int64, took time.Duration) {
	if bytes < smallestChunk/4 || took <= 0 {
		return
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	rate := float64(bytes) / took.Seconds()
	if !z.sure {
		z.rate, z.sure = rate, true
	}
	z.rate += (rate - z.rate) / 4
}

// begin takes in what a first, short stream has shown.
func (z *sizer) begin(bytes int64, took time.Duration) {
	if took <= 0 {
		return
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.rate, z.sure = float64(bytes)/took.Seconds(), true
}

// most returns the bytes of a chunk that takes chunkTime.
func (z *sizer) most() int64 {
	z.mu.Lock()
	defer z.mu.Unlock()
	return min(max(int64(z.rate*chunkTime.Seconds()), smallestChunk), largestChunk)
}

const (
	// wholeChunks is how many chunks' time and bytes a whole table may take: its rows can
	// be frozen then, which spares the target a second look at each of them.
	wholeChunks = 2
	// wholeRate is the rate, in bytes a second, above which a stream is limited by the table's file
	// and the log, which several streams of one table have to share. Below it, a stream waits for
	// the network or for the work on each row, of which two streams do twice as much.
	wholeRate = 64 << 20
)

// fast reports whether a stream was seen to reach wholeRate.
func (z *sizer) fast() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.sure && z.rate >= wholeRate
}

// chunk returns the bytes of the next chunk of a relation with left bytes not yet cut, all of it if
// whole is set, while others bytes of other relations have not been begun. Near the end of the copy
// chunks get smaller, so that the jobs end together.
func (z *sizer) chunk(left, others int64, whole bool) int64 {
	if z.fixed > 0 {
		return z.fixed
	}
	most := z.most()
	if whole && left <= wholeChunks*most && (left < probedTable || z.fast() || others >= left*(z.jobs-1)) {
		return left
	}
	if left <= most && (z.jobs == 1 || others >= left*z.jobs) {
		return left // nobody waits for a part of it
	}
	return min(max(left/(2*z.jobs), smallestChunk), most)
}

const (
	// probeBytes of a table, by its size on disk, tell how fast a stream is: enough
	// to be more than round trips, little enough to cost nothing.
	probeBytes = 8 << 20
	// probeTime bounds the probe. What has arrived by then is enough to measure.
	probeTime = 5 * time.Second
	// probedTable is the size from which it matters for a table.
	probedTable = 96 << 20
)

// probe measures one stream before anything is cut, where a table is so large that
// a chunk at the assumed speed might take far more, or less, than it should: the
// table's first rows go into a table of the same columns that is never committed. What
// goes wrong here goes wrong for the chunks too, which say so.
func (r *run) probe(ctx context.Context, rel *relation) {
	if r.cfg.ChunkBytes > 0 || rel.size < probedTable || !rel.pass.facts.heap {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	w := &worker{run: r, bufs: relay.NewBuffers(r.cfg.BufferBytes)}
	defer func() {
		snapshot.Close(w.source)
		snapshot.Close(w.target)
	}()
	bytes, took, err := w.probeStream(ctx, rel)
	if bytes > 0 {
		r.sizer.begin(bytes, took)
	}
	r.cfg.Log.Debug().Int64("bytes", bytes).Dur("took", took).AnErr("error", err).Msg("speed of a stream is measured")
}

// probeStream sends rows and returns how many bytes of the table's file they are,
// and how long that took.
func (w *worker) probeStream(ctx context.Context, rel *relation) (bytes int64, took time.Duration, err error) {
	if err := w.connect(ctx); err != nil {
		return 0, 0, err
	}
	f := rel.pass.facts
	part := span{0, min(probeBytes*f.blocks/max(f.bytes, 1)+1, f.blocks)}
	if !snapshot.BlockRanges(w.source) {
		return 0, 0, nil // it would read the whole table
	}
	sink := rel.table
	sink.Name = pg.Name{Schema: "crossfade", Name: fmt.Sprintf("probe_%d", w.target.PgConn().PID())}
	begin := "BEGIN; CREATE TABLE " + sink.Name.String() + " (LIKE " + rel.table.Name.String() + ")"
	if err := pg.Exec(ctx, w.target, begin); err != nil {
		return 0, 0, err
	}
	if err := rel.pass.holder.Begin(ctx, w.source, w.cfg.SourceLockTimeout); err != nil {
		return 0, 0, err
	}
	fl := &flight{c: w.counters}
	began := time.Now()
	_, _, _, err = w.pump(ctx, rel.table.copyOut(part)+"; COMMIT", sink.copyIn(false), false, fl)
	switch took = time.Since(began); {
	case err == nil:
		return f.share(part), took, nil // what the target has of it goes with the session
	case ctx.Err() != nil:
		return fl.bytes, took, err // those on the wire: of a table's file it is about as many
	}
	return 0, 0, err
}
