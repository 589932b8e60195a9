package daemon

import "errors"

// exit says which exit code an error of this package leads to.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string { return e.err.Error() }
func (e *exit) Unwrap() error { return e.err }

// Exit codes, as in the command line's contract.
const (
	exitRefused     = 1
	exitUsage       = 2
	exitNotComplete = 3
)

// ExitCode returns the program's exit code for an error of this package: 1,
// refused with nothing changed, unless it says otherwise.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	var e *exit
	if errors.As(err, &e) {
		return e.code
	}
	return exitRefused
}

func usage(err error) error       { return &exit{exitUsage, err} }
func notComplete(err error) error { return &exit{exitNotComplete, err} }
