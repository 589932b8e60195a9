package snapshot

import (
	"context"
	"errors"

	"crossfade/internal/base/pg"
)

// Passing reports whether err, of a read, a write or a login of a copy, may be gone at the next
// attempt: the connection was lost, the server did not answer the login in time, a lock was not to
// be had, or the statement was cancelled, as the Yielder does.
func Passing(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if errors.Is(err, context.DeadlineExceeded) || pg.ConnectionLost(err) {
		return true
	}
	return pg.IsCode(err, pg.CodeQueryCanceled, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected, pg.CodeSerializationFailure)
}
