package daemon

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/base/journal"
	"crossfade/replicate/slot"
)

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
		return slot.Drop(ctx, conn, name, slot.TerminateHolder)
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
	d.mu.Lock()
	stop, known := d.stopMigration, d.core.failed != nil
	d.mu.Unlock()
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
