package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/internal/base/sqltext"
	"crossfade/replicate/apply"
	"crossfade/replicate/slot"
)

// contentionWatchTime is how long one check for a wait of the stream takes: longer than its pause
// between two tries.
const contentionWatchTime = 500 * time.Millisecond

// contention is whom the stream was last seen waiting for on the target.
type contention struct {
	since time.Time // of the apply.Contention
	wait  dbconn.Wait
}

// watchContention finds out, for the status, who holds the lock on the target that the stream waits
// for.
func (d *follower) watchContention(ctx context.Context) {
	for range retry.PollFor(ctx, dbconn.LockPoll, contentionWatchTime) {
		s, err := d.core.stream.Status()
		if err != nil || s.Contended == nil {
			return
		}
		asking, cancel := context.WithTimeout(ctx, dbconn.AskTimeout)
		w, err := dbconn.Ask(asking, d.watches.watchlist.Guards[1], dbconn.LockWaitOf(s.Contended.PID))
		cancel()
		if err != nil {
			d.core.log.Debug().Err(err).Msg("the holder of a lock that the stream waits for could not be found out")
			return
		}
		if len(w.Holders) > 0 && w.Lock != "" {
			d.core.mu.Lock()
			d.contention = &contention{since: s.Contended.Since, wait: w}
			d.core.mu.Unlock()
			return
		}
	}
}

// streamWaits reports a lock on the target that the stream waits for, nil for none.
func (d *follower) streamWaits() *control.Blocker {
	s, err := d.core.stream.Status()
	if err != nil || s.Contended == nil {
		return nil
	}
	d.core.mu.Lock()
	seen := d.contention
	d.core.mu.Unlock()
	return contentionBlocker(s.Contended, seen)
}

// contentionBlocker words a wait of the stream. seen is the session that it was last seen waiting
// for, nil for none.
func contentionBlocker(c *apply.Contention, seen *contention) *control.Blocker {
	b := &control.Blocker{Code: "stream_waits", Detail: "the stream of changes has waited for a lock on the target since " + c.Since.UTC().Format("15:04:05 UTC") + ": "}
	if seen == nil || !seen.since.Equal(c.Since) { // it has yet to be seen waiting
		b.Detail += c.Err.Error()
		b.Remedy = "wait: crossfade run looks for the session that holds it, and names it within seconds"
		return b
	}
	w := seen.wait
	if w.Lock == dbconn.ARow && w.Query != "" { // of a transaction that has yet to end, which says nothing of its table
		w.Lock += " for " + sqltext.Shape(w.Query, dbconn.ShownStatement)
	}
	b.Detail += w.String()
	b.Remedy = w.Remedy("target") + "; the stream continues by itself"
	return b
}

// explainedEnd adds the remedy to the error with which the migration of `run` stopped.
func (d *core) explainedEnd(err error) error {
	if _, ok := errors.AsType[*givenUpError](err); ok { // it has its own message
		return err
	}
	return d.migration.Explained(err, "start crossfade run again to continue: what was copied stays")
}

// waiting is what the operator has to fix before the migration continues, nil for nothing.
func (d *follower) waiting() error {
	d.core.mu.Lock()
	stuck := d.stuck
	d.core.mu.Unlock()
	if stuck != nil {
		return stuck
	}
	if err := d.core.migration.Rows.Waiting(); err != nil {
		return err
	}
	s, err := d.core.stream.Status()
	if err == nil && s.Waiting != nil {
		return s.Waiting
	}
	return nil
}

// stuckAt records why the migration was interrupted, if the operator has to fix the cause.
func (d *follower) stuckAt(err error) {
	d.core.mu.Lock()
	defer d.core.mu.Unlock()
	if d.stuck = nil; pg.IsCode(err, pg.CodeDiskFull) {
		d.stuck = err
	}
}

// givenUpError says that the migration was ended to protect the source, or that
// the source ended it.
type givenUpError struct {
	slot.Reason
}

func (e *givenUpError) Error() string { return e.detail() + "; " + e.Remedy }

// detail is the error without its remedy.
func (e *givenUpError) detail() string {
	if e.Level == slot.Lost {
		return e.Detail
	}
	return "the migration was given up and its replication slot dropped, to protect the source: " + e.Detail +
		"; the source is unharmed and serves on, but what was written since cannot be followed any more"
}

// tells reports whether a warning only repeats what a migration that was given up reports itself:
// the reason, and that its slot has been dropped.
func (e *givenUpError) tells(warning control.Blocker) bool {
	return warning.Code == e.Code || warning.Code == "slot_lost"
}

// guardSource lets the guard check the source, and does what it says. It drops a slot that costs
// the source too much, and ends a migration that has lost its own.
func (d *follower) guardSource(ctx context.Context, conn *pgx.Conn) error {
	name := d.entry.identity().Target.Slot
	made := d.core.migration.Task.Reached(journal.PhaseDumped) // read before the check
	v, err := d.watches.guard.Weigh(ctx, conn, name, made, d.core.migration.Rows.Copying(), d.core.migration.Rows.Copied())
	if err != nil || v.Level < slot.Spent || !d.mayGiveUp(v.Level) {
		return err
	}
	d.giveUp(&givenUpError{v.Worst()})
	if v.Level == slot.Spent {
		return slot.Drop(ctx, conn, name)
	}
	return nil
}

// hasSlot returns an error if a run that is continued has lost its slot meanwhile.
func (d *follower) hasSlot(ctx context.Context) error {
	if !d.core.migration.Task.Reached(journal.PhaseDumped) {
		return nil
	}
	return d.sessions.watching.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		v, err := d.watches.guard.Weigh(ctx, conn, d.entry.identity().Target.Slot, true, false, control.Copy{})
		if err == nil && v.Level == slot.Lost {
			return &givenUpError{v.Worst()}
		}
		return err
	})
}

// mayGiveUp reports whether the migration can be ended now. An attempt at a cutover takes seconds,
// and ends by itself; it is not disturbed. After the switch the slot serves the watch over the
// closed source only, and may be dropped like any other, but nothing is lost with it. Before the
// archive is kept, a slot that is not there is one that is being made.
func (d *follower) mayGiveUp(l slot.Level) bool {
	switch d.core.coordinator.Status().State.Step {
	case machine.Copying, machine.CatchingUp, machine.Following, machine.Idle:
		return l == slot.Spent || d.core.migration.Task.Reached(journal.PhaseDumped)
	case machine.Decided:
		return l == slot.Spent
	}
	return false
}

// giveUp ends the migration, once; the applications are served on.
func (d *follower) giveUp(err *givenUpError) {
	d.core.mu.Lock()
	stop, known := d.stopMigration, d.core.failed != nil
	d.core.mu.Unlock()
	if known {
		return
	}
	if d.core.coordinator.Status().Active == machine.SideTarget {
		d.core.log.Warn().Str("detail", err.Detail).Msg("the source is not watched any more, to protect its disk; its fence stands")
	} else {
		d.core.fail(err)
	}
	if stop != nil {
		stop(err)
	}
}
