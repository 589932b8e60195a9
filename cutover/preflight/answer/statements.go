package answer

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

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
	if n := countOf(r.Of(Blocker), func(f Finding) bool { return f.SQL == "" }); n > 0 {
		left = append(left, Count(n, "blocker")+" without a statement")
	}
	if n := countOf(r.Of(Warning), func(f Finding) bool { return f.SQL != "" }); n > 0 {
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
	var list []string
	for _, f := range r.Of(Blocker) {
		if f.SQL != "" && f.On == on && !slices.Contains(list, f.SQL) {
			list = append(list, f.SQL)
		}
	}
	return list
}

func countOf(list []Finding, is func(Finding) bool) (n int) {
	for _, f := range list {
		if is(f) {
			n++
		}
	}
	return n
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
