package answer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"crossfade/internal/base/lists"
)

// WriteText prints the report for people: blockers first, one a line, those that have
// one remedy together with it under them, and a verdict in the last line.
func WriteText(w io.Writer, r Report) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range []Severity{Blocker, Warning, Info} {
		for _, group := range byRemedy(r.Of(s)) {
			for _, f := range group {
				fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", s, f.Code, cmp.Or(f.Object, "-"), f.Detail)
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

// OneLine writes a text of several lines as one.
func OneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

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
		Blockers:   lists.NotNil(r.Of(Blocker)),
		Warnings:   lists.NotNil(r.Of(Warning)),
		Infos:      lists.NotNil(r.Of(Info)),
		Incomplete: lists.NotNil(lists.Map(r.Incomplete, func(i Incomplete) incomplete { return incomplete{Check: i.Check, Error: OneLine(i.Err.Error())} })),
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(d)
}

// Both, for WriteSQL, asks for the statements of both sides.
const Both Side = "both"

// BothSidesError says that there are statements for both sides, and that the caller has not chosen
// one.
type BothSidesError struct{ Source, Target int }

func (e *BothSidesError) Error() string {
	return fmt.Sprintf("there are statements for both sides, %d for the source and %d for the target: give --on source or --on target, or to look through them --on both", e.Source, e.Target)
}

// WriteSQL prints the statements that remove the blockers, each once, and nothing else: what
// psql takes. side is whose are printed; Both has those for the source first, then an empty
// line, then those for the target. Without a side it is the one for which there are some; where
// both have some it prints nothing and returns a BothSidesError, since one psql is
// connected to one side. What a warning asks for is the operator's to decide and is not
// printed. notes gets whose statements these are, and what is left without one.
func WriteSQL(w, notes io.Writer, r Report, side Side) error {
	per := map[Side][]string{Source: statements(r, Source), Target: statements(r, Target)}
	if side == "" && len(per[Source]) > 0 && len(per[Target]) > 0 {
		return &BothSidesError{len(per[Source]), len(per[Target])}
	}
	out, said := &lines{w: w}, &lines{w: notes}
	var of []string
	for _, on := range []Side{Source, Target} {
		if side == Both || side == on || side == "" && len(per[on]) > 0 {
			if len(of) > 0 && len(per[on]) > 0 {
				out.print("")
			}
			for _, s := range per[on] {
				out.print("%s;", s)
			}
			if len(per[on]) > 0 {
				of = append(of, fmt.Sprintf("%s, for the %s", Count(len(per[on]), "statement"), on))
			}
		}
	}
	switch {
	case len(of) > 0:
		said.print("%s", strings.Join(of, "; then "))
	case side == "" || side == Both:
		said.print("no statement")
	default:
		said.print("no statement for the %s", side)
	}
	var left []string
	if n := len(lists.Filter(r.Of(Blocker), func(f Finding) bool { return f.SQL == "" })); n > 0 {
		left = append(left, Count(n, "blocker")+" without a statement")
	}
	if n := len(lists.Filter(r.Of(Warning), func(f Finding) bool { return f.SQL != "" })); n > 0 {
		left = append(left, Count(n, "warning")+" with one that is yours to decide")
	}
	if n := len(r.Incomplete); n > 0 {
		left = append(left, Count(n, "check")+" without an answer")
	}
	if len(left) > 0 {
		said.print("%s: see crossfade check", strings.Join(left, ", and "))
	}
	return errors.Join(out.err, said.err)
}

// statements returns the statements of the blockers for a side, each once.
func statements(r Report, on Side) []string {
	return lists.AddNew(nil, lists.Pick(r.Of(Blocker), func(f Finding) (string, bool) {
		return f.SQL, f.SQL != "" && f.On == on
	})...)
}

// lines writes lines, and keeps the first error.
type lines struct {
	w   io.Writer
	err error
}

func (l *lines) print(format string, args ...any) {
	if l.err == nil {
		_, l.err = fmt.Fprintf(l.w, format+"\n", args...)
	}
}
