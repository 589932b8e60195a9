package control

import (
	"errors"
	"net/http"

	"crossfade/internal/app/exit"
)

// Codes of an Error.
const (
	CodeUsage       = "usage"       // the request makes no sense
	CodeNotFound    = "not_found"   // no such path, or no report yet
	CodeReadOnly    = "read_only"   // this listener changes nothing
	CodeBusy        = "busy"        // another operation runs
	CodeRefused     = "refused"     // not possible now; nothing was changed
	CodeIncomplete  = "incomplete"  // something was changed and not undone
	CodeInternal    = "internal"    // the daemon could not do it
	CodeStopping    = "stopping"    // the daemon is going down
	CodeStopped     = "stopped"     // the migration has ended with an error
	CodeAway        = "away"        // the side that serves the applications does not answer
	CodeUnreachable = "unreachable" // no daemon answers; made by the client
	CodeLost        = "lost"        // the answer never came; made by the client
)

// Error is what the daemon, or the client in its stead, says when something was not done.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
	// Blockers are the reasons of a refusal, each with its remedy.
	Blockers []Blocker `json:"blockers,omitempty"`
}

// Error is one line: what is wrong, and what to do.
func (e *Error) Error() string {
	if e.Remedy == "" {
		return e.Message
	}
	return e.Message + "; " + e.Remedy
}

// asError makes any error of the daemon's an Error.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: CodeInternal, Message: err.Error(), Remedy: "see the daemon's log"}
}

func (e *Error) status() int {
	switch e.Code {
	case CodeUsage:
		return http.StatusBadRequest
	case CodeNotFound:
		return http.StatusNotFound
	case CodeReadOnly:
		return http.StatusForbidden
	case CodeBusy, CodeRefused:
		return http.StatusConflict
	case CodeStopping, CodeStopped, CodeAway:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// ExitCode is the program's exit status for an error of the client's methods.
// Errors that are no *Error could not complete, nil is done.
func ExitCode(err error) int {
	if err == nil {
		return exit.CodeDone
	}
	var e *Error
	if !errors.As(err, &e) {
		return exit.CodeNotComplete
	}
	switch e.Code {
	case CodeUsage:
		return exit.CodeUsage
	case CodeNotFound, CodeReadOnly, CodeBusy, CodeRefused, CodeStopping, CodeUnreachable:
		return exit.CodeRefused
	default:
		return exit.CodeNotComplete
	}
}

// Refused is the refusal of a request, and what to do about it.
func Refused(message, remedy string) error {
	return &Error{Code: CodeRefused, Message: message, Remedy: remedy}
}
