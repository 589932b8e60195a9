package cli

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"crossfade/internal/app/exit"
	"crossfade/internal/app/oneshot"
)

// printCopy prints what a copy did: a line for each database, and what was left out beneath.
func printCopy(w io.Writer, r oneshot.Report) {
	if len(r.Databases) == 0 || len(r.Databases) == 1 && r.Databases[0].Err != nil && len(r.Databases[0].Refused) == 0 {
		return // the error says it all
	}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "database\ttarget\ttables\trows\tsize\ttime\tresult")
	for _, d := range r.Databases {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\t%s\t%s\n", d.Source, d.Target, d.Tables, d.Rows, bytesText(d.Bytes), d.Took.Round(100*time.Millisecond), copyResult(d))
	}
	_ = table.Flush()
	for _, d := range r.Databases {
		if d.Err != nil && len(r.Databases) > 1 {
			fmt.Fprintf(w, "%s: %s\n", d.Source, oneLine(d.Err))
		}
		for _, f := range d.Refused {
			fmt.Fprintf(w, "refused: %s: %s\n", d.Source, f)
		}
		for _, n := range d.Notes {
			fmt.Fprintf(w, "note: %s: %s\n", d.Source, n)
		}
	}
}

func copyResult(d oneshot.DatabaseReport) string {
	switch {
	case d.Skipped != "":
		return d.Skipped
	case len(d.Refused) > 0:
		return fmt.Sprintf("copied, but for %d that the target refused", len(d.Refused))
	case d.Err != nil && exit.Code(d.Err) == ExitRefused:
		return "refused"
	case d.Err != nil:
		return "not complete"
	case len(d.Notes) == 1:
		return "copied, 1 note"
	case len(d.Notes) > 0:
		return fmt.Sprintf("copied, %d notes", len(d.Notes))
	}
	return "copied"
}
