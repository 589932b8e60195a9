package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"crossfade/internal/app/control"
	"crossfade/internal/base/lists"
)

// printSessions prints one line for each session.
func printSessions(w io.Writer, sessions []control.Session, asJSON bool, now time.Time) error {
	if asJSON {
		return json.NewEncoder(w).Encode(sessions)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tCLIENT\tUSER\tDATABASE\tAPPLICATION\tSIDE\tSTATE\tFOR\tVERDICT\tREASON")
	for _, s := range sessions {
		why := lists.Map(s.Reasons, func(r control.SessionReason) string { return r.Detail })
		verdict := s.Verdict
		if s.Stale {
			verdict += " (before)"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%v\t%s\t%s\n", s.ID, s.Client, cell(s.User), cell(s.Database), cell(s.ApplicationName),
			s.Side, s.State, max(0, now.Sub(s.Since)).Truncate(time.Second), verdict, cell(strings.Join(why, "; ")))
	}
	return t.Flush()
}

// cell is a text that a client chose, made fit for one cell of a terminal's table.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
