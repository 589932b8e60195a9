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
	for _, p := range b.parts {
		if err := s.plan(ctx, plan, p); err != nil {
			return err
		}
	}
	plan.flushAll()
	err := s.retryOnLock(ctx, b.truncates, func() error {
		return s.transact(ctx, plan.steps, to, at, sync, false)
	})
	switch {
	case err == nil:
		s.noteBatch(plan.steps)
	case errors.Is(err, errAdvance) || transient(err) || ctx.Err() != nil:
		return s.explain(ctx, err)
	default:
		s.log.Warn().Err(err).Str(obs.KeyLSN, to.String()).Int("transactions", len(b.parts)).Msg("batch replayed row by row")
		if err := s.replay(ctx, b, sync); err != nil {
			return err
		}
		s.noteReplay()
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
	defer s.contended(nil)
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
			s.contended(&Contention{PID: s.backend.pid, Since: begun, Err: err})
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
	var text string
	if err := conn.QueryRow(ctx, "SELECT "+snapshot.Current(conn)).Scan(&text); err != nil {
		return 0, err
	}
	snap, err := pg.ParseSnapshot(text)
	return snap.Xmax, err
}
