package ports

import (
	"errors"
	"fmt"

	"crossfade/cutover"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
)

// portError translates an error into what the cutover must know of it. commit says that a commit
// was on its way, so that a lost connection leaves its outcome open.
func portError(err error, commit bool) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, journal.ErrMoved):
		return conflict{err}
	case errors.Is(err, errWaitedFor), pg.IsCode(err, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected):
		return fmt.Errorf("%w: %w", cutover.ErrLockTimeout, err)
	case commit && (pg.Code(err) == "" || pg.ConnectionLost(err)):
		return fmt.Errorf("%w: %w", cutover.ErrOutcomeUnknown, err)
	}
	return err
}

// conflict is a cutover.ErrConflict with the message of its cause, which says the same and names
// the process that acts on the run.
type conflict struct{ error }

func (c conflict) Unwrap() []error { return []error{cutover.ErrConflict, c.error} }
