package apply

import (
	"context"
	"errors"

	"crossfade/internal/base/pg"
	"crossfade/replicate/stream"
)

// replay applies a batch again in the order of the source: each transaction as
// one of its own, each change as a statement of its own.
func (s *session) replay(ctx context.Context, b *batch, sync bool) error {
	for _, p := range b.parts {
		plan := newPlanner(s.x.statement, true)
		if err := s.plan(ctx, plan, p); err != nil {
			return err
		}
		err := s.retryOnLock(ctx, b.truncates, func() error {
			return s.transact(ctx, plan.steps, p.EndLSN, p.Time, sync, true)
		})
		if err != nil {
			return s.explain(ctx, s.name(ctx, err, plan.steps, p))
		}
	}
	return nil
}

// name turns the error of a step that was applied by itself into one that names
// table and row, unless the error is none of the row's.
func (s *session) name(ctx context.Context, err error, steps []step, p *stream.Part) error {
	f := (*failure)(nil)
	if !errors.As(err, &f) || transient(err) || errors.Is(err, errAdvance) || ctx.Err() != nil || pg.ConnectionLost(err) {
		return err
	}
	named := &RowError{Change: "commit", XID: p.XID, LSN: p.CommitLSN, Err: f.err}
	if f.step >= 0 && f.step < len(steps) && steps[f.step].op != nil {
		o := steps[f.step].op
		named.Relation, named.Change = o.t.display(), o.change()
		if o.kind != opTruncate {
			named.Key = o.row()
		}
	}
	return named
}
