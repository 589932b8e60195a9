package answer

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteText prints the report for people: blockers first, one a line, those that have
// one remedy together with it under them, and a verdict in the last line.
func WriteText(w io.Writer, r Report) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range []Severity{Blocker, Warning, Info} {
		for _, group := range byRemedy(r.Of(s)) {
			for _, f := range group {
				fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", s, f.Code, dash(f.Object), f.Detail)
			}
			if do := group[0].Do(); do != "" {
				fmt.Fprintf(tw, "\t\t\tdo: %s\n", do)
			}
		}
	}
	for _, i := range r.Incomplete {
		fmt.Fprintf(tw, "unknown\t%s\t-\tcould not complete: %s\n", strings.ReplaceAll(i.Check, " ", "_"), OneLine(i.Err.Error()))
	}
	fmt.Fprintf(tw, "%s\n", Verdict(r))
	return tw.Flush()
}

// byRemedy groups findings that have one remedy. The groups, and the findings within
// them, keep their order; findings without one stay alone.
func byRemedy(found []Finding) [][]Finding {
	var groups [][]Finding
	at := map[string]int{}
	for _, f := range found {
		do := f.Do()
		i, ok := at[do]
		if !ok || do == "" {
			i = len(groups)
			at[do] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], f)
	}
	return groups
}

// Verdict is one line: the counts, and what they mean.
func Verdict(r Report) string {
	blockers, warnings := len(r.Of(Blocker)), len(r.Of(Warning))
	counts := fmt.Sprintf("%s, %s", Count(blockers, "blocker"), Count(warnings, "warning"))
	switch r.ExitCode() {
	case ExitIncomplete:
		return fmt.Sprintf("could not complete: %s without an answer; so far %s", Count(len(r.Incomplete), "check"), counts)
	case ExitBlocked:
		return "blocked: " + counts
	default:
		return "ready: " + counts
	}
}

// Count writes a number of things.
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// OneLine writes a text of several lines as one.
func OneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
