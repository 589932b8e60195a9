package copy

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"crossfade/internal/base/retry"
	"crossfade/replicate/snapshot"
)

// begin records under what the relation is copied and queues its chunks. When it
// is begun again, it may take another snapshot first.
func (w *worker) begin(ctx context.Context, t *task) error {
	rel := t.rel
	if err := w.connect(ctx); err != nil {
		return err
	}
	if rel.pass.gen < t.gen || w.snapshots.replaced(rel.pass.holder) {
		if err := w.renew(ctx, t); err != nil {
			return err
		}
	}
	p := *rel.pass
	var err error
	if p.key, err = w.keyOf(ctx, t); err != nil {
		w.abandon()
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	b, err := beginRelation(bounded, w.target, rel.table, wish{snapshot: p.holder.Text(), filenode: p.facts.filenode,
		repair: p.key != nil, empty: startsOver(t.cause), strict: w.cfg.OneMoment})
	if err != nil {
		w.abandon()
		return err
	}
	p.attempt, p.repair = b.attempt, len(b.older) > 0
	rel.pass = &p
	w.queue.taken(rel)
	if b.finished {
		return w.finish(ctx, rel, &p, false)
	}
	if err := w.tellBegin(t, b); err != nil {
		return err
	}
	spans := make([]span, len(b.kept))
	for i, l := range b.kept {
		spans[i] = l.span
		w.counters.landed(rel, p.facts.share(l.span), l.rows)
	}
	done := complete(b.kept)
	if done && !p.repair {
		return w.finish(ctx, rel, &p, true)
	}
	var open []span
	if !done {
		open = gaps(spans)
		p.ranges = p.facts.heap && snapshot.BlockRanges(w.source)
	}
	w.queue.begun(t, &p, open, count(p.repair))
	if p.repair {
		return w.askChanges(t, &p, b)
	}
	return nil
}

// tellBegin counts and logs how a relation was begun. The error says that it was
// begun again too often.
func (w *worker) tellBegin(t *task, b beginning) error {
	table := t.rel.table.Name.Display()
	if len(b.kept) > 0 {
		w.cfg.Log.Info().Str("table", table).Int("chunks", len(b.kept)).Bool("older_snapshot", len(b.older) > 0).Msg("table continues with what is copied")
		return nil
	}
	if t.gen == 0 && !b.emptied {
		return nil
	}
	cause := t.cause
	if cause == nil {
		cause = errUnkept
	}
	t.rel.restarts++
	if t.rel.restarts > w.cfg.MaxRestarts {
		return retry.Permanent(fmt.Errorf("begun again %d times: %w", t.rel.restarts-1, cause))
	}
	w.counters.change(func(p *Progress) { p.Restarts++ })
	w.cfg.Log.Warn().Str("table", table).AnErr("error", cause).Bool("emptied", b.emptied).Msg("table is copied again under a fresh snapshot")
	return nil
}

// errUnkept is why a relation of an earlier Run is emptied.
var errUnkept = errors.New("the snapshot of an earlier start is gone, and the table was rewritten since or has no key by which changed rows could be found")

// keyOf returns the table's key if what changed of it can be fetched again, nil if
// not. A relation that is begun for the first time needs none.
func (w *worker) keyOf(ctx context.Context, t *task) (key, error) {
	if w.cfg.Stream == nil || len(t.rel.table.Key) == 0 || t.rel.table.Through.Name != "" || t.gen == 0 && !t.rel.resumed {
		return nil, nil
	}
	k, err := readKey(ctx, w.source, t.rel.table)
	if errors.Is(err, errNoKey) {
		return nil, nil
	}
	return k, err
}

// renew gives the relation another snapshot, where it needs one, and what that one sees of it.
func (w *worker) renew(ctx context.Context, t *task) error {
	rel, h := t.rel, t.rel.pass.holder
	gone := h.Check(ctx) != nil
	if err := ctx.Err(); err != nil {
		return err
	}
	f := rel.pass.facts
	if gone || errors.Is(t.cause, errRewritten) {
		if w.cfg.OneMoment {
			return retry.Permanent(fmt.Errorf("%w: %w", ErrMoment, cmp.Or(t.cause, snapshot.ErrLost)))
		}
		lost := h
		if !gone {
			lost = nil
		}
		var err error
		if h, f, err = w.freshFacts(ctx, rel, lost); err != nil {
			return err
		}
		w.snapshots.release(rel.pass.holder)
	}
	w.counters.takeBack(rel, f.bytes)
	rel.pass = &pass{gen: t.gen, holder: h, facts: f}
	return nil
}

func (w *worker) freshFacts(ctx context.Context, rel *relation, lost *snapshot.Holder) (*snapshot.Holder, facts, error) {
	h, err := w.snapshots.fresh(ctx, lost)
	if err != nil {
		return nil, facts{}, err
	}
	all, err := readFacts(ctx, w.source, h, []uint32{rel.table.OID}, w.cfg.SourceLockTimeout)
	f := all[rel.table.OID]
	if err == nil && f.filenode == 0 {
		err = ErrGone
	}
	if err != nil {
		w.snapshots.release(h)
		w.abandon()
		return nil, facts{}, err
	}
	return h, f, nil
}
