package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/progress"
)

// DriftError says that a table of the target does not fit, or no longer fits,
// what the source sends of it. Nothing of the transaction was applied.
type DriftError struct {
	Relation string   // schema and name
	Problems []string // what does not fit, each a sentence without a stop
}

func (e *DriftError) Error() string {
	return fmt.Sprintf("table %s differs between source and target: %s; make the target's table fit and start again, or copy it again",
		e.Relation, strings.Join(e.Problems, "; "))
}

// RenamedError says that columns of a relation of the source had each other's names when rows were
// written, so that the stream does not say which column of the target a value belongs to. Nothing
// of the transaction was applied, and no later attempt can apply it.
type RenamedError struct {
	Relation        string   // schema and name
	Copied, Changed []string // the columns in the order of the copy, and of the change
}

func (e *RenamedError) Error() string {
	return fmt.Sprintf("changes of table %s cannot be followed: its columns changed their names or places; they were %s when it was copied, and %s when it was changed",
		e.Relation, strings.Join(e.Copied, ", "), strings.Join(e.Changed, ", "))
}

// RowError says that a change could not be applied, also not by itself and in
// the order of the source. Nothing of its transaction was applied.
type RowError struct {
	Relation string
	Change   string // "insert", "update", "delete", "truncate" or "commit"
	Key      string // columns and values that name the row; "" where none is known
	XID      uint32 // of the source's transaction
	LSN      pg.LSN // where that transaction commits on the source
	Err      error
}

func (e *RowError) Error() string {
	row := ""
	if e.Key != "" {
		row = " of row (" + e.Key + ")"
	}
	in := ""
	if e.Relation != "" {
		in = " in " + e.Relation
	}
	return fmt.Sprintf("apply %s%s%s, transaction %d committed at %s: %v; %s", e.Change, row, in, e.XID, e.LSN, e.Err, e.remedy())
}

// remedy says what to do. It says that another session has changed the target only if rows show
// that: one is missing, or one exists already.
func (e *RowError) remedy() string {
	if errors.As(e.Err, new(*countError)) || pg.IsCode(e.Err, pg.CodeUniqueViolation, pg.CodeExclusionViolation) {
		return "the target has changed otherwise than by us: repair that row there and start again, or copy the table again"
	}
	return "remove on the target what it names and start again: nothing of the transaction was applied"
}

func (e *RowError) Unwrap() error { return e.Err }

// countError says that a statement changed another number of rows than the source did.
type countError struct{ want, got int64 }

func (e *countError) Error() string {
	if e.want == 1 && e.got == 0 {
		return "the row is not there"
	}
	return fmt.Sprintf("%d rows changed instead of %d", e.got, e.want)
}

// codeDivisionByZero is what our own assertions fail with: SQLSTATE 22012.
const codeDivisionByZero = "22012"

// lockConflict reports whether the same statements may succeed in a moment on the same connection.
func lockConflict(err error) bool {
	return pg.IsCode(err, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected, pg.CodeSerializationFailure)
}

// transient reports whether a new connection to the target is worth a try.
func transient(err error) bool {
	if pg.ConnectionLost(err) || lockConflict(err) || errors.Is(err, progress.ErrMoved) ||
		errors.Is(err, errBatchLimit) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	c := pg.Code(err)
	// Insufficient resources, operator intervention, system error.
	return strings.HasPrefix(c, "53") || strings.HasPrefix(c, "57") || strings.HasPrefix(c, "58")
}

// final marks the errors that end the follower.
func final(err error) error {
	if err == nil || transient(err) {
		return err
	}
	return retry.Permanent(err)
}

// MissedError says that the marker from which on a lane is applied is no longer in the stream:
// someone else has read from the slot, or made it again.
type MissedError struct {
	LSN   pg.LSN // of a transaction that was committed after the marker
	Since pg.LSN // where the decision was taken
}

func (e *MissedError) Error() string {
	return fmt.Sprintf("the slot does not hold the decision at %s any more, by the transaction at %s: someone else has read from it, or made it again; what was written between is lost", e.Since, e.LSN)
}
