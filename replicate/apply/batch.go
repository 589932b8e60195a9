package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/progress"
	"crossfade/replicate/snapshot"
	"crossfade/replicate/stream"
)

const (
	beginSQL       = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
	syncSQL        = "SET LOCAL synchronous_commit TO on"
	lockRetryPause = 100 * time.Millisecond // pause before a batch is tried again that met a lock
)

var advanceStatement = &statement{sql: progress.AdvanceSQL}

// begin returns the steps that every transaction of ours begins with, and the
// index of the advance among them.
func (s *session) begin(to pg.LSN, committed time.Time, sync bool) (steps []step, advance int) {
	steps = append(steps, control(beginSQL))
	if sync {
		steps = append(steps, control(syncSQL))
	}
	if s.own != nil {
		steps = append(steps, step{stmt: s.own, want: -1})
	}
	return append(steps, s.advanceStep(s.applied, to, committed)), len(steps)
}

func (s *session) advanceStep(from, to pg.LSN, committed time.Time) step {
	return step{stmt: advanceStatement, params: progress.AdvanceArgs(s.cfg.Lane, s.owner, from, to, committed), want: 1}
}

// errAdvance says that the progress row was not as expected.
var errAdvance = errors.New("progress row is not as expected")

// advanceError tells the failure of the advance from that of any other step.
func advanceError(err error, advance int) error {
	if f := (*failure)(nil); errors.As(err, &f) && f.step == advance && pg.IsCode(f.err, codeDivisionByZero) {
		return errAdvance
	}
	return err
}

// transact runs steps as one target transaction that begins with the advance to a position. With
// asserted false the transaction commits in a second round trip, after the answers were checked.
func (s *session) transact(ctx context.Context, changes []step, to pg.LSN, committed time.Time, sync, byRow bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.BatchLimit, errBatchLimit)
	defer cancel()
	steps, advance := s.begin(to, committed, sync)
	if byRow {
		// The source may have deferred them too.
		steps = append(steps, control("SET CONSTRAINTS ALL DEFERRED"))
	}
	first := len(steps)
	steps = append(steps, changes...)
	if !byRow {
		steps = append(steps, control(commitSQL))
	}
	err := s.x.run(ctx, steps)
	if err == nil && byRow {
		err = s.x.run(ctx, []step{control(commitSQL)})
		if f := (*failure)(nil); errors.As(err, &f) {
			f.step = len(steps)
		}
	}
	if err == nil {
		s.committed(to, committed, sync)
		return nil
	}
	err = advanceError(err, advance)
	if f := (*failure)(nil); errors.As(err, &f) {
		f.step -= first
	}
	if context.Cause(ctx) == errBatchLimit {
		return fmt.Errorf("apply batch: %w", errBatchLimit)
	}
	if rollbackErr := s.x.rollback(ctx); rollbackErr != nil {
		return fmt.Errorf("%w (after: %w)", rollbackErr, err)
	}
	return err
}

// committed notes a commit.
func (s *session) committed(to pg.LSN, at time.Time, sync bool) {
	s.applied = to
	if sync {
		s.durable, s.synced = to, time.Now()
		s.reader.Confirm(to)
	}
	s.noteApplied(to, at, s.durable)
	failpoint.Here("follow.applied")
}

// explain turns the failed advance into the reason for it.
func (s *session) explain(ctx context.Context, err error) error {
	if !errors.Is(err, errAdvance) {
		return err
	}
	return progress.Explain(ctx, s.x.conn, s.cfg.Lane, s.owner)
}

// apply applies a batch, set by set, and if that fails row by row.
func (s *session) apply(ctx context.Context, b *batch) error {
	to, at := b.end()
	sync := len(b.nonces) > 0 || time.Since(s.synced) >= s.cfg.DurableInterval
	plan := newPlanner(s.x.statement, false)
	var err error
	for _, p := range b.parts {
		if err = s.plan(ctx, plan, p); err != nil {
			break // the transactions before it are applied one by one: they fit the target as it is now
		}
	}
	if err == nil {
		plan.flushAll()
		err = s.retryOnLock(ctx, b.truncates, func() error {
			return s.transact(ctx, plan.steps, to, at, sync, false)
		})
	}
	switch {
	case err == nil:
		s.change(func(now *state) { now.status.Statements += uint64(len(plan.steps)) })
	case errors.Is(err, errAdvance) || transient(err) || ctx.Err() != nil:
		return s.explain(ctx, err)
	default:
		s.log.Warn().Err(err).Str(obs.KeyLSN, to.String()).Int("transactions", len(b.parts)).Msg("batch replayed row by row")
		if err := s.replay(ctx, b, sync); err != nil {
			return err
		}
		s.change(func(now *state) { now.status.Replays++ })
	}
	s.finish(b)
	return nil
}

// finish releases an applied batch and informs those that wait for it.
func (s *session) finish(b *batch) {
	for _, p := range b.parts {
		s.notePart(p)
		p.Release()
	}
	for _, nonce := range b.nonces {
		s.markerApplied(nonce, s.applied)
	}
}

// retryOnLock repeats try while others hold locks that the batch needs.
func (s *session) retryOnLock(ctx context.Context, truncates bool, try func() error) error {
	defer s.change(func(now *state) { now.status.Contended = nil })
	begun := time.Now()
	for n := 1; ; n++ {
		if truncates && s.cfg.BeforeTruncate != nil {
			if err := s.cfg.BeforeTruncate(ctx); err != nil {
				return fmt.Errorf("make way for truncate: %w", err)
			}
		}
		err := try()
		if err == nil || !lockConflict(err) || ctx.Err() != nil {
			return err
		}
		if pg.IsCode(err, pg.CodeLockNotAvailable) {
			s.change(func(now *state) { now.status.Contended = &Contention{PID: s.backend.pid, Since: begun, Err: err} })
		}
		if n == 1 || n%30 == 0 {
			s.log.Warn().Err(err).Int(obs.KeyAttempt, n).Msg("batch waits for a lock on the target")
		}
		if err := retry.Sleep(ctx, lockRetryPause); err != nil {
			return err
		}
	}
}

// plan adds a part's changes to the plan.
func (s *session) plan(ctx context.Context, plan *planner, p *stream.Part) error {
	for i := range p.Changes {
		c := &p.Changes[i]
		switch c.Kind {
		case stream.KindMessage:
		case stream.KindTruncate:
			rels := slices.DeleteFunc(slices.Clone(c.Relations), func(rel *stream.Relation) bool { return s.copied(rel, p.XID) })
			tables, err := s.truncated(ctx, rels)
			if err != nil {
				return err
			}
			if len(tables) > 0 {
				plan.truncate(tables, c.RestartIdentity, p)
			}
		default:
			if s.copied(c.Relation, p.XID) {
				continue
			}
			t, err := s.target(ctx, c.Relation)
			if err != nil {
				return err
			}
			o, err := opOf(t.change(c), t.table, p)
			if err != nil {
				return err
			}
			plan.add(o)
		}
	}
	return nil
}

// copied reports whether the relation's copy has seen the transaction, or the relation is ours.
func (s *session) copied(rel *stream.Relation, xid uint32) bool {
	if rel.Name.Schema == ownSchema {
		return true
	}
	snap, ok := s.cfg.Snapshots[rel.ID]
	return ok && snap.Visible(s.xids.widen(xid))
}

// xids completes the 32-bit transaction numbers of the stream. Snapshots of the copy cannot do
// that: two thousand million transactions later the same low halves occur again. The source never
// lets transactions that the slot still needs become that old.
type xids struct{ newest uint64 } // one that the source had reached when the stream began, or in the stream since

func (x *xids) widen(xid uint32) uint64 {
	full := pg.Snapshot{Xmax: x.newest}.Widen(xid)
	x.newest = max(x.newest, full)
	return full
}

// newestXID asks the source how far its transaction numbers are.
func (f *Follower) newestXID(ctx context.Context) (uint64, error) {
	conn, err := pg.Connect(ctx, f.cfg.Source, append([]pg.Option{pg.WithName("stream start")}, f.cfg.SourceOptions...)...)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var snap pg.Snapshot
	err = conn.QueryRow(ctx, "SELECT "+snapshot.Current(conn)).Scan(&snap)
	return snap.Xmax, err
}

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
