package copy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/copy/relay"
	"crossfade/replicate/snapshot"
)

const (
	// rollbackTimeout bounds a ROLLBACK: a session that needs longer for it is as good as lost.
	rollbackTimeout = 10 * time.Second
	// loginTimeout bounds both logins of a worker, which have bounds of their
	// own; it is the answer to a server that accepts and then says nothing.
	loginTimeout = time.Minute
	// beginTimeout bounds the beginning of a relation on the target, which waits for
	// chunks of a session that is dead and has not been noticed: the keepalives of
	// our sessions find that out in less than a minute.
	beginTimeout = 5 * time.Minute
	// firstPause and longestPause are between the attempts at one chunk.
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	// fixPause is the longest one where someone has to fix something: a chunk that is tried leaves
	// its dead rows on a disk that is full.
	fixPause = 30 * time.Second
)

// worker is one job: a session on each side, opened when they are needed.
type worker struct {
	*run
	bufs           relay.Buffers
	source, target *pgx.Conn
}

// work does tasks until every relation is copied. An error is one that another attempt cannot fix.
func (w *worker) work(ctx context.Context) error {
	defer func() {
		snapshot.Close(w.source)
		snapshot.Close(w.target)
	}()
	for w.gate.enter(ctx) {
		since := time.Now()
		t := w.queue.next(ctx)
		if time.Since(since) > hunger {
			w.gate.starved()
		}
		if t == nil {
			w.gate.leave()
			break
		}
		err := w.do(ctx, t)
		w.gate.leave()
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// hunger is how long a job waits for a task before its window tells nothing of
// the target: longer than others need to begin a relation.
const hunger = 200 * time.Millisecond

func (w *worker) do(ctx context.Context, t *task) error {
	if t.kind == taskBatch {
		return w.batch(ctx, t)
	}
	if err := w.step(ctx, t); err != nil {
		return &TableError{Table: t.rel.table.Name, Err: err}
	}
	return nil
}

func (w *worker) step(ctx context.Context, t *task) error {
	var err error
	switch t.kind {
	case taskBegin:
		err = w.begin(ctx, t)
	case taskRepair:
		err = w.repair(ctx, t)
	default:
		var rows int64
		if rows, err = w.chunk(ctx, t); err != nil {
			break
		}
		if err = w.landed(ctx, t, rows); err != nil && !errors.Is(err, errGap) {
			return err // the chunk is counted: it must not be tried again
		}
	}
	if err == nil || w.queue.stale(t) {
		w.counters.goesOn(t.rel)
		return nil
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errGap): // which finish does not try again, since chunks are missing
		w.restart(t, err)
		return nil
	case retry.IsPermanent(err): // it has been tried often enough
		return err
	case errors.Is(err, snapshot.ErrLost) && t.kind != taskBegin && t.pass.holder.Check(ctx) == nil:
		return w.again(t, err) // by the holder's other session
	case errors.Is(err, errRewritten), errors.Is(err, snapshot.ErrLost), startsOver(err):
		w.restart(t, err)
		return nil
	case snapshot.Passing(err), errors.Is(err, errCommitNotVisible), errors.Is(err, relay.ErrReaderGone), errors.Is(err, relay.ErrYielded), recordExists(err), w.gate.refused(err):
		return w.again(t, err)
	case w.cfg.Wait && pg.Fixable(err):
		w.wait(t, err)
		return nil
	}
	if t.kind == taskChunk {
		err = fmt.Errorf("%s: %w", t.span, err)
	}
	return gone(err)
}

// wait leaves a task until someone has fixed what is in its way. The snapshot is kept; a caller
// that must not let it grow old ends the Run.
func (w *worker) wait(t *task, cause error) {
	t.tries++
	t.since = time.Now() // a temporary error has already been retried for its whole patience
	err := &TableError{Table: t.rel.table.Name, Err: cause}
	if w.counters.waits(t.rel, err) {
		w.cfg.Log.Warn().AnErr("error", err).Msg("wait until it is fixed")
	}
	w.queue.again(t, min(firstPause<<min(t.tries, 10), fixPause))
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

// restart has the relation begun again. What can be kept of it is kept then.
func (r *run) restart(t *task, cause error) {
	if r.queue.restart(t, cause) {
		return
	}
	r.cfg.Log.Debug().Str("table", t.rel.table.Name.Display()).AnErr("error", cause).Msg("begin table again")
}

// landed counts a chunk; the last one of a relation makes it copied, or ready for its repair.
func (w *worker) landed(ctx context.Context, t *task, rows int64) error {
	last := w.queue.landed(t, func() { w.counters.landed(t.rel, t.pass.facts.share(t.span), rows) })
	switch {
	case !last:
		return nil
	case t.pass.repair:
		w.queue.push(&task{rel: t.rel, gen: t.gen, kind: taskRepair, pass: t.pass})
		return nil
	}
	return w.finish(ctx, t.rel, t.pass, true)
}

// finish records that a relation is copied, unless that is recorded already. It
// has attempts of its own, since no task is left that would come back to it.
func (w *worker) finish(ctx context.Context, rel *relation, p *pass, record bool) error {
	e := end{snapshot: p.holder.Text()}
	if record {
		policy := retry.Policy{MaxElapsed: w.cfg.Patience}
		err := retry.Do(ctx, policy, func(ctx context.Context) error {
			err := w.connect(ctx)
			if err == nil {
				e, err = finishRelation(ctx, w.target, rel.table, p.attempt)
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
	w.counters.copied(rel, e.rows, record)
	if p.repair {
		w.counters.change(func(now *Progress) {
			now.Repaired++
			now.RepairedKeys += e.keys
		})
		w.cfg.Log.Info().Str("table", rel.table.Name.Display()).Int64("keys", e.keys).Msg("rows that changed since the lost snapshot were fetched again")
	}
	w.snapshots.release(p.holder)
	w.tell(Copied{Table: rel.table, Snapshot: e.snapshot, Rows: e.rows, Repaired: e.keys})
	w.queue.finished(1)
	return nil
}

// connect opens the sessions that are missing.
func (w *worker) connect(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	if w.source == nil || w.source.IsClosed() {
		w.source, err = snapshot.Session(ctx, w.cfg.Source)
	}
	if err == nil && (w.target == nil || w.target.IsClosed()) {
		w.target, err = w.cfg.Target(ctx)
	}
	return err
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
