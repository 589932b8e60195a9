package preflight

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteText prints the report for people: blockers first, each with what to do
// under it, and a verdict in the last line.
func WriteText(w io.Writer, r Report) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range []Severity{Blocker, Warning, Info} {
		for _, f := range r.Of(s) {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", s, f.Code, dash(f.Object), f.Detail)
			if f.Remedy != "" {
				fmt.Fprintf(tw, "\t\t\tdo: %s\n", f.Remedy)
			}
		}
	}
	for _, i := range r.Incomplete {
		fmt.Fprintf(tw, "unknown\t%s\t-\tcould not complete: %s\n", strings.ReplaceAll(i.Check, " ", "_"), oneLine(i.Err.Error()))
	}
	fmt.Fprintf(tw, "%s\n", verdict(r))
	return tw.Flush()
}

// verdict is one line: the counts, and what they mean.
func verdict(r Report) string {
	blockers, warnings := len(r.Of(Blocker)), len(r.Of(Warning))
	counts := fmt.Sprintf("%s, %s", count(blockers, "blocker"), count(warnings, "warning"))
	switch r.ExitCode() {
	case ExitIncomplete:
		return fmt.Sprintf("could not complete: %s without an answer; so far %s", count(len(r.Incomplete), "check"), counts)
	case ExitBlocked:
		return "blocked: " + counts
	default:
		return "ready: " + counts
	}
}

func count(n int, noun string) string {
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

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// document is the JSON form; its fields are a contract.
type document struct {
	Ready      bool         `json:"ready"`
	Complete   bool         `json:"complete"`
	Blockers   []Finding    `json:"blockers"`
	Warnings   []Finding    `json:"warnings"`
	Infos      []Finding    `json:"infos"`
	Incomplete []incomplete `json:"incomplete"`
}

type incomplete struct {
	Check string `json:"check"`
	Error string `json:"error"`
}

// WriteJSON prints the report as one object. Lists are never null.
func WriteJSON(w io.Writer, r Report) error {
	d := document{
		Ready:      r.Ready(),
		Complete:   len(r.Incomplete) == 0,
		Blockers:   notNil(r.Of(Blocker)),
		Warnings:   notNil(r.Of(Warning)),
		Infos:      notNil(r.Of(Info)),
		Incomplete: []incomplete{},
	}
	for _, i := range r.Incomplete {
		d.Incomplete = append(d.Incomplete, incomplete{Check: i.Check, Error: oneLine(i.Err.Error())})
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(d)
}

func notNil(f []Finding) []Finding {
	if f == nil {
		return []Finding{}
	}
	return f
}
