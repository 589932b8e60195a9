package copy

import (
	"context"
	"fmt"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/replicate/copy/relay"
	"crossfade/replicate/snapshot"
)

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
