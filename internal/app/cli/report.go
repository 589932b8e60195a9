package cli

import (
	"errors"
	"io"

	"crossfade/cutover/preflight"
)

func printReport(w io.Writer, r preflight.Report, asJSON bool) error {
	if asJSON {
		return preflight.WriteJSON(w, r)
	}
	return preflight.WriteText(w, r)
}

// printStatements prints statements alone, and on stderr what is to know of them.
func printStatements(e *env, r preflight.Report, on string) error {
	err := preflight.WriteSQL(e.stdout, e.stderr, r, preflight.Side(on))
	var both *preflight.BothSidesError
	if errors.As(err, &both) {
		return &exitError{ExitUsage, err}
	}
	return err
}
