package preflight

import (
	"encoding/json"
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
			if remedy := group[0].Remedy; remedy != "" {
				fmt.Fprintf(tw, "\t\t\tdo: %s\n", remedy)
			}
		}
	}
	for _, i := range r.Incomplete {
		fmt.Fprintf(tw, "unknown\t%s\t-\tcould not complete: %s\n", strings.ReplaceAll(i.Check, " ", "_"), oneLine(i.Err.Error()))
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
		i, ok := at[f.Remedy]
		if !ok || f.Remedy == "" {
			i = len(groups)
			at[f.Remedy] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], f)
	}
	return groups
}

// WriteSQL prints the statements of the remedies alone, each once, those for the source
// first: SQL that psql takes. What only warns stands in comments, since it is the
// operator's to decide, and so does how much is left that no statement does. With side,
// only that one's are printed.
func WriteSQL(w io.Writer, r Report, side Side) error {
	out := &lines{w: w}
	for _, on := range []Side{Source, Target} {
		if side != "" && side != on {
			continue
		}
		out.print("-- on the %s", on)
		seen := map[string]bool{}
		for _, s := range []Severity{Blocker, Warning} {
			for _, f := range r.Of(s) {
				if f.On != on || seen[f.SQL] {
					continue
				}
				seen[f.SQL] = true
				if s == Warning {
					out.print("-- %s; if that matters: %s;", oneLine(f.Code+" "+f.Object), oneLine(f.SQL))
					continue
				}
				out.print("%s;", f.SQL)
			}
		}
	}
	without := 0
	for _, f := range r.Of(Blocker) {
		if f.SQL == "" {
			without++
		}
	}
	if without > 0 {
		out.print("-- %s without a statement: see crossfade check", count(without, "blocker"))
	}
	if n := len(r.Incomplete); n > 0 {
		out.print("-- %s without an answer: see crossfade check", count(n, "check"))
	}
	return out.err
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

// Verdict is one line: the counts, and what they mean.
func Verdict(r Report) string {
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
