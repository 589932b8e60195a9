package daemon

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/internal/control"
	"crossfade/internal/journal"
	"crossfade/replicate/slot"
)

// givenUpError says that the migration was ended to protect the source, or that
// the source ended it.
type givenUpError struct {
	slot.Reason
}

func (e *givenUpError) Error() string {
	if e.Level == slot.Lost {
		return e.Detail + "; " + e.Remedy
	}
	return "the migration was given up and its replication slot dropped, to protect the source: " + e.Detail +
		"; the source is unharmed and serves on, but what was written since cannot be followed any more; " + e.Remedy
}

// guardSource has the guard look at the source, and does what it says. It drops a
// slot that costs the source too much, and ends a migration that has lost its own.
func (d *daemon) guardSource(ctx context.Context, conn *pgx.Conn) error {
	name := d.identity().target.Slot
	made := d.migration.reached(journal.PhaseDumped) // asked before the look
	v, err := d.guard.weigh(ctx, conn, name, made, d.migration.copying(), d.migration.copied())
	if err != nil || v.Level < slot.Spent || !d.mayGiveUp(v.Level) {
		return err
	}
	d.giveUp(&givenUpError{v.Worst()})
	if v.Level == slot.Spent {
		return slot.Drop(ctx, conn, name, slot.TerminateHolder)
	}
	return nil
}

// hasSlot is an error when a run that goes on has lost its slot meanwhile.
func (d *daemon) hasSlot(ctx context.Context) error {
	if !d.migration.reached(journal.PhaseDumped) {
		return nil
	}
	return d.watching.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		v, err := d.guard.weigh(ctx, conn, d.identity().target.Slot, true, false, control.Copy{})
		if err == nil && v.Level == slot.Lost {
			return &givenUpError{v.Worst()}
		}
		return err
	})
}

// mayGiveUp reports whether the migration can be ended now. An attempt at a
// cutover takes seconds, and ends by itself; it is not disturbed. Behind the switch
// the slot serves the watch over the closed source only, and may be dropped like
// any other, but nothing is lost with it. Before the archive is kept, a slot that
// is not there is one that is being made.
func (d *daemon) mayGiveUp(l slot.Level) bool {
	switch d.coordinator.Status().State.Step {
	case cutover.Copying, cutover.CatchingUp, cutover.Following, cutover.Idle:
		return l == slot.Spent || d.migration.reached(journal.PhaseDumped)
	case cutover.Decided:
		return l == slot.Spent
	}
	return false
}

// giveUp ends the migration, once; the applications are served on.
func (d *daemon) giveUp(err *givenUpError) {
	d.mu.Lock()
	stop, known := d.stopMigration, d.failed != nil
	d.mu.Unlock()
	if known {
		return
	}
	if d.coordinator.Status().Active == cutover.SideTarget {
		d.log.Warn().Str("detail", err.Detail).Msg("the source is not watched any more, to protect its disk; its fence stands")
	} else {
		d.fail(err)
	}
	if stop != nil {
		stop(err)
	}
}
