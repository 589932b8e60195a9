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
