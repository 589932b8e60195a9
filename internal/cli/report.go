package cli

import (
	"io"

	"crossfade/cutover/preflight"
)

func printReport(w io.Writer, r preflight.Report, asJSON bool) error {
	if asJSON {
		return preflight.WriteJSON(w, r)
	}
	return preflight.WriteText(w, r)
}

// printStatements prints the statements for one side, or for both.
func printStatements(w io.Writer, r preflight.Report, on string) error {
	if on == "both" {
		on = ""
	}
	return preflight.WriteSQL(w, r, preflight.Side(on))
}
