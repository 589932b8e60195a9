package cutover

import (
	"context"
	"errors"
	"strings"

	"crossfade/cutover/machine"
	"crossfade/internal/base/lists"
)

// Errors that ports return, wrapped, if the machine must know more than that a call failed. Any
// other error means that the call had no effect that matters.
var (
	// ErrConflict says that a compare-and-set found another epoch, step or owner than ours.
	ErrConflict = errors.New("the run has moved on without us")

	// ErrOutcomeUnknown says that the connection was lost during a commit: it may have succeeded.
	ErrOutcomeUnknown = errors.New("it is not known whether the transaction was committed")

	// ErrLockTimeout says that a lock was not granted within the bound; the transaction was rolled
	// back.
	ErrLockTimeout = errors.New("a lock was not granted in time")

	// ErrHeld says that sessions hold what cannot be moved and that they may release it; the gate
	// is open.
	ErrHeld = errors.New("sessions cannot be moved yet")

	// ErrDrainTimeout says that transactions stayed open past the drain timeout; the gate is open
	// again.
	ErrDrainTimeout = errors.New("transactions did not end in time")
)

// Errors of the coordinator.
var (
	// ErrUndecided says that the coordinator ended, or the caller stopped waiting, before a request
	// was completed. Its outcome is in the journal and the register.
	ErrUndecided = errors.New("the request has no outcome yet: \"crossfade status\" says where it is; after a stop, \"crossfade run\" or " +
		"\"crossfade recover\" ends it")

	// ErrStopped says that the coordinator is not running.
	ErrStopped = errors.New("the coordinator is not running")
)

// RefusedError says why a request was not begun. Nothing was changed.
type RefusedError struct{ Obstacles []machine.Obstacle } // never empty

func (e *RefusedError) Error() string {
	details := lists.Map(e.Obstacles, func(o machine.Obstacle) string { return o.Detail })
	return "refused: " + strings.Join(details, "; ")
}

// codeUsage is the code of an obstacle that is the request itself.
const codeUsage = "usage"

func misused(reason string) error {
	return &RefusedError{Obstacles: []machine.Obstacle{{Code: codeUsage, Detail: reason, Remedy: "see crossfade cutover --help"}}}
}

// classify says what the machine may conclude from an error. callCtx is the call's own context,
// which ends at the call's bound.
func classify(callCtx context.Context, err error) machine.Class {
	switch {
	case errors.Is(err, ErrConflict):
		return machine.ClassConflict
	case errors.Is(err, ErrOutcomeUnknown):
		return machine.ClassUnknown
	case errors.Is(err, ErrLockTimeout):
		return machine.ClassLockTimeout
	case errors.Is(err, ErrHeld):
		return machine.ClassHeld
	case errors.Is(err, ErrDrainTimeout):
		return machine.ClassDrainTimeout
	case callCtx.Err() != nil:
		return machine.ClassTimeout
	default:
		return machine.ClassFailure
	}
}
