package copy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/pg"
	"crossfade/internal/retry"
	"crossfade/replicate/snapshot"
)

const (
	// rollbackTimeout bounds a ROLLBACK: a session that needs longer for it is
	// as good as lost.
	rollbackTimeout = 10 * time.Second
	// loginTimeout bounds both logins of a worker, which have bounds of their
	// own; it is the answer to a server that accepts and then says nothing.
	loginTimeout = time.Minute
	// firstPause and longestPause are between the attempts at one chunk.
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	// mendPause is the longest one where somebody has to mend something: a chunk
	// that is tried leaves its dead rows on a disk that is full.
	mendPause = 30 * time.Second
)

// worker is one job: a session on each side, opened when they are needed.
type worker struct {
	*run
	bufs           buffers
	source, target *pgx.Conn
}

// work does tasks until every relation is copied. An error is one that another
// attempt cannot mend.
func (w *worker) work(ctx context.Context) error {
	defer func() {
		snapshot.Close(w.source)
		snapshot.Close(w.target)
	}()
	for {
		t := w.queue.next(ctx)
		if t == nil {
			return ctx.Err()
		}
		if err := w.do(ctx, t); err != nil {
			return &TableError{Table: t.rel.table.Name, Err: err}
		}
	}
}

func (w *worker) do(ctx context.Context, t *task) error {
	var err error
	if t.begin {
		err = w.begin(ctx, t)
	} else {
		var rows int64
		if rows, err = w.chunk(ctx, t); err == nil {
			w.counters.goesOn(t.rel)
			return w.landed(ctx, t, rows)
		}
	}
	if err == nil || w.queue.stale(t) {
		w.counters.goesOn(t.rel)
		return nil
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errRewritten), errors.Is(err, snapshot.ErrLost):
		return w.restart(t, err)
	case snapshot.Passing(err), errors.Is(err, errReaderGone), errors.Is(err, errYielded), recordExists(err):
		return w.again(t, err)
	case w.cfg.Wait && pg.Mendable(err):
		w.wait(t, err)
		return nil
	}
	if !t.begin {
		err = fmt.Errorf("%s: %w", t.span, err)
	}
	return gone(err)
}

// wait leaves a task until somebody has mended what is in its way. The snapshot is
// kept; whoever must not let it grow old ends the Run.
func (w *worker) wait(t *task, cause error) {
	t.tries++
	t.since = time.Now() // what passes by itself has its whole patience behind it
	err := &TableError{Table: t.rel.table.Name, Err: cause}
	if w.counters.waits(t.rel, err) {
		w.cfg.Log.Warn().AnErr("error", err).Msg("wait until it is mended")
	}
	w.queue.again(t, min(firstPause<<min(t.tries, 10), mendPause))
}

// again lets a task be tried once more, within the bound of its patience.
func (w *worker) again(t *task, cause error) error {
	now := time.Now()
	if t.tries == 0 {
		t.since = now
	}
	t.tries++
	if now.Sub(t.since) > w.cfg.Patience {
		return fmt.Errorf("give up after %s and %d attempts: %w", now.Sub(t.since).Round(time.Second), t.tries, cause)
	}
	pause := min(firstPause<<min(t.tries-1, 8), longestPause)
	w.counters.change(func(p *Progress) { p.Retries++ })
	w.say(t, cause)
	w.queue.again(t, pause)
	return nil
}

// restart begins the relation anew, under another snapshot.
func (w *worker) restart(t *task, cause error) error {
	n, stale := w.queue.restart(t)
	if stale {
		return nil
	}
	if n > w.cfg.MaxRestarts {
		return fmt.Errorf("begun anew %d times: %w", n-1, cause)
	}
	w.counters.change(func(p *Progress) { p.Restarts++ })
	w.cfg.Log.Warn().Str("table", t.rel.table.Name.Display()).AnErr("error", cause).Msg("copy table anew under a fresh snapshot")
	return nil
}

// begin records that the relation is being copied and queues its chunks. After a
// restart it takes another snapshot first.
func (w *worker) begin(ctx context.Context, t *task) error {
	rel := t.rel
	if err := w.connect(ctx); err != nil {
		return err
	}
	if rel.pass.gen < t.gen {
		if err := w.takeSnapshot(ctx, t); err != nil {
			return err
		}
	}
	p := rel.pass
	done, finished, err := beginRelation(ctx, w.target, rel.table, p.holder.Text(), p.facts)
	if err != nil {
		w.abandon()
		return err
	}
	if finished {
		return w.finish(ctx, rel, p, false)
	}
	spans := make([]span, len(done))
	for i, l := range done {
		spans[i] = l.span
		w.counters.landed(rel, p.facts.share(l.span), l.rows)
	}
	if complete(done) {
		return w.finish(ctx, rel, p, true)
	}
	w.queue.begun(t, p, cut(p.facts, w.cfg.ChunkBytes, snapshot.BlockRanges(w.source), spans))
	return nil
}

// takeSnapshot gives the relation another snapshot and what that one sees of it.
func (w *worker) takeSnapshot(ctx context.Context, t *task) error {
	rel, lost := t.rel, (*snapshot.Holder)(nil)
	if rel.pass.holder.Check(ctx) != nil {
		lost = rel.pass.holder
	}
	h, err := w.snapshots.fresh(ctx, lost)
	if err != nil {
		return err
	}
	all, err := readFacts(ctx, w.source, h, []uint32{rel.table.OID}, w.cfg.SourceLockTimeout)
	f := all[rel.table.OID]
	if err == nil && f.filenode == 0 {
		err = ErrGone
	}
	if err != nil {
		w.snapshots.release(h)
		w.abandon()
		return err
	}
	w.counters.takeBack(rel, f.bytes)
	w.snapshots.release(rel.pass.holder)
	rel.pass = &pass{gen: t.gen, holder: h, facts: f}
	return nil
}

// landed counts a chunk; the last one of a relation makes it copied.
func (w *worker) landed(ctx context.Context, t *task, rows int64) error {
	last := w.queue.landed(t, func() { w.counters.landed(t.rel, t.pass.facts.share(t.span), rows) })
	if !last {
		return nil
	}
	return w.finish(ctx, t.rel, t.pass, true)
}

// finish records that a relation is copied, unless that is recorded already. It
// has attempts of its own, since no task is left that would come back to it.
func (w *worker) finish(ctx context.Context, rel *relation, p *pass, record bool) error {
	var rows int64
	if record {
		policy := retry.Policy{MaxElapsed: w.cfg.Patience}
		err := retry.Do(ctx, policy, func(ctx context.Context) error {
			err := w.connect(ctx)
			if err == nil {
				rows, err = finishRelation(ctx, w.target, rel.table, p.holder.Text())
			}
			if err != nil {
				w.abandon()
			}
			return passing(err)
		})
		if err != nil {
			return err
		}
	}
	w.counters.copied(rel)
	w.snapshots.release(p.holder)
	if w.cfg.OnCopied != nil {
		w.cfg.OnCopied(Copied{Table: rel.table, Snapshot: p.holder.Text(), Rows: rows})
	}
	w.queue.finished()
	return nil
}

// connect opens the sessions that are missing.
func (w *worker) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	if w.source == nil || w.source.IsClosed() {
		conn, err := snapshot.Session(ctx, w.cfg.Source)
		if err != nil {
			return err
		}
		w.source = conn
	}
	if w.target == nil || w.target.IsClosed() {
		conn, err := w.cfg.Target(ctx)
		if err != nil {
			return err
		}
		w.target = conn
	}
	return nil
}

// say logs a failed attempt: the first of a chunk, and then now and again.
func (w *worker) say(t *task, cause error) {
	if t.tries > 1 && t.tries%20 != 0 {
		return
	}
	level := w.cfg.Log.Warn()
	if pg.IsCode(cause, pg.CodeQueryCanceled, pg.CodeLockNotAvailable) {
		level = w.cfg.Log.Info()
	}
	level.Str("table", t.rel.table.Name.Display()).Int("attempt", t.tries).AnErr("error", cause).Msg("try again")
}
