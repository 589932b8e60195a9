package cli

import (
	"errors"
	"io"

	"crossfade/cutover/preflight/answer"
)

func printReport(w io.Writer, r answer.Report, asJSON bool) error {
	if asJSON {
		return answer.WriteJSON(w, r)
	}
	return answer.WriteText(w, r)
}

// printStatements prints statements alone, and on stderr what is to know of them.
func printStatements(e *env, r answer.Report, on string) error {
	err := answer.WriteSQL(e.stdout, e.stderr, r, answer.Side(on))
	var both *answer.BothSidesError
	if errors.As(err, &both) {
		return &exitError{ExitUsage, err}
	}
	return err
}
