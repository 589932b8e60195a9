package watch

import (
	"errors"
	"strings"

	"crossfade/internal/base/pg"
	"crossfade/replicate/slot"
	"crossfade/replicate/snapshot"
)

// Passing reports whether an error of the migration may be gone at the next
// attempt: a database was away.
func Passing(err error) bool {
	if pg.ConnectionLost(err) || snapshot.Passing(err) || errors.Is(err, snapshot.ErrLost) {
		return true
	}
	if errors.As(err, new(*slot.BlockedError)) { // status names the transactions
		return true
	}
	return strings.HasPrefix(pg.Code(err), "57") // operator intervention
}
