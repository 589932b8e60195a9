package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"crossfade/internal/base/obs"
	"crossfade/replicate/stream"
)

// large applies a transaction that comes in parts, as one target transaction
// that grows with them. Each part is applied set by set within a savepoint, and
// if that fails row by row. The transaction begins by proving that the progress
// row is as expected, and moves it at its end, when the position is known.
func (s *session) large(ctx context.Context, p *stream.Part) error {
	if s.seen(p) {
		p.Release()
		return nil // the other parts follow and are dropped by special
	}
	begin, advance := s.begin(s.applied, time.Time{}, true)
	if err := s.x.run(ctx, append(begin, control("SET CONSTRAINTS ALL DEFERRED"))); err != nil {
		return s.abandon(ctx, advanceError(err, advance))
	}
	whole := batch{}
	for {
		if p.Void || (p.First && len(whole.parts) > 0) {
			p.Release()
			return s.x.rollback(ctx)
		}
		if err := s.part(ctx, p); err != nil {
			return s.abandon(ctx, err)
		}
		whole.nonces = append(whole.nonces, markers(p)...)
		whole.parts = append(whole.parts[:0], p)
		s.notePart(p)
		p.Release()
		if p.Last {
			break
		}
		var err error
		if p, err = s.next(ctx); err != nil {
			return err
		}
	}
	last := whole.parts[0]
	end := []step{s.advanceStep(s.applied, last.EndLSN, last.Time), control(commitSQL)}
	if err := s.x.run(ctx, end); err != nil {
		return s.abandon(ctx, s.name(ctx, advanceError(err, 0), nil, last))
	}
	s.committed(last.EndLSN, last.Time, true)
	for _, nonce := range whole.nonces {
		s.markerApplied(nonce, s.applied)
	}
	return nil
}

// abandon rolls back and passes the error on.
func (s *session) abandon(ctx context.Context, err error) error {
	if rollbackErr := s.x.rollback(ctx); rollbackErr != nil {
		return fmt.Errorf("%w (after: %w)", rollbackErr, err)
	}
	return s.explain(ctx, err)
}

// part applies one part within the open transaction.
func (s *session) part(ctx context.Context, p *stream.Part) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.BatchLimit, errBatchLimit)
	defer cancel()
	savepoint := func(byRow bool) error {
		plan := newPlanner(s.x.statement, byRow)
		if err := s.plan(ctx, plan, p); err != nil {
			return err
		}
		plan.flushAll()
		return s.retryOnLock(ctx, truncates(p), func() error {
			steps := append([]step{control("SAVEPOINT part")}, plan.steps...)
			err := s.x.run(ctx, append(steps, control("RELEASE SAVEPOINT part")))
			if err == nil || s.x.conn.IsClosed() {
				return err
			}
			if back := s.x.run(ctx, []step{control("ROLLBACK TO SAVEPOINT part"), control("RELEASE SAVEPOINT part")}); back != nil {
				return back
			}
			if f := (*failure)(nil); errors.As(err, &f) {
				f.step--
			}
			if byRow {
				return s.name(ctx, err, plan.steps, p)
			}
			return err
		})
	}
	err := savepoint(false)
	if err == nil || transient(err) || ctx.Err() != nil {
		return err
	}
	s.log.Warn().Err(err).Uint32("xid", p.XID).Str(obs.KeyLSN, p.CommitLSN.String()).Msg("part of a large transaction replayed row by row")
	return savepoint(true)
}
