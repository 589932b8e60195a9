// Package exit says with which exit code an error ends the program. An error without a code was
// refused with nothing changed.
package exit

import "errors"

// coded says which exit code an error leads to.
type coded struct {
	code int
	err  error
}

func (e *coded) Error() string { return e.err.Error() }
func (e *coded) Unwrap() error { return e.err }

// Exit codes, as in the command line's contract.
const (
	CodeDone        = 0
	CodeRefused     = 1
	CodeUsage       = 2
	CodeNotComplete = 3
)

// Code returns the program's exit code for an error: CodeRefused, with nothing changed, unless it
// says otherwise.
func Code(err error) int {
	if err == nil {
		return CodeDone
	}
	if e, ok := errors.AsType[*coded](err); ok {
		return e.code
	}
	return CodeRefused
}

// Usage says that the program was called wrongly.
func Usage(err error) error { return &coded{CodeUsage, err} }

// NotComplete says that something could not be completed: it is never shown as done.
func NotComplete(err error) error { return &coded{CodeNotComplete, err} }

// With gives an error an exit code.
func With(code int, err error) error { return &coded{code, err} }
