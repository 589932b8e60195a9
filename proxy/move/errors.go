package move

import (
	"fmt"
	"strings"
	"time"

	"crossfade/internal/base/lists"
	"crossfade/proxy/session"
)

// maxNamed bounds how many sessions an error names.
const maxNamed = 5

func names(notes []session.Note) string {
	list := lists.Map(notes[:min(len(notes), maxNamed)], session.Note.String)
	if more := len(notes) - maxNamed; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, "; ")
}

// DrainTimeoutError says which sessions were in the way when the time of a pause
// was over. The gate is open again.
type DrainTimeoutError struct {
	After    time.Duration
	Sessions []session.Note
	Logins   int    // logins that were being made
	Prepared string // a prepared transaction that is still open, with what to do about it; "" for none
}

func (e *DrainTimeoutError) Error() string {
	var parts []string
	if len(e.Sessions) > 0 {
		parts = append(parts, names(e.Sessions))
	}
	if e.Logins > 0 {
		parts = append(parts, fmt.Sprintf("%d logins not finished", e.Logins))
	}
	if e.Prepared != "" {
		parts = append(parts, e.Prepared)
	}
	return fmt.Sprintf("sessions did not come to rest within %s: %s; end their transactions or give a longer --drain-timeout", e.After, strings.Join(parts, "; "))
}

// UnmovableError says which sessions cannot be moved, and why.
type UnmovableError struct {
	Sessions []session.Note
}

func (e *UnmovableError) Error() string {
	return fmt.Sprintf("%d sessions cannot be moved: %s", len(e.Sessions), names(e.Sessions))
}

// HeldError says which sessions cannot be moved yet, and why: they hold state that they may
// release.
type HeldError struct {
	Sessions []session.Note
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%d sessions cannot be moved yet: %s", len(e.Sessions), names(e.Sessions))
}

// EpochError says that a call belongs to an attempt that is over, or comes out of turn.
type EpochError struct {
	Asked, Now int64
	What       string
}

func (e *EpochError) Error() string {
	return fmt.Sprintf("%s of epoch %d is refused: the proxy is at epoch %d", e.What, e.Asked, e.Now)
}
