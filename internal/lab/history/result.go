package history

import (
	"fmt"
	"io"
	"strings"
)

// maxExamples is how many cases of each fault a Result names.
const maxExamples = 5

// Finding is one sort of fault: how often, with some cases.
type Finding struct {
	Count    int
	Examples []string
}

// Result is the verdict of Check.
type Result struct {
	Acknowledged int // transactions by outcome
	Failed       int
	Unknown      int
	Reads        int
	FailedReads  int

	Rows         int // in the ledger
	Found        int // acknowledged and there exactly once
	UnknownFound int // of unknown outcome and there
	IDs          int // numbers that sequences handed out
	Sides        []Side
	Switches     int // changes of side that the clients could tell
	Invariants   int // checked

	ListTransactions int // that read lists or appended to them
	RegisterOps      int // on registers, that took place
	Transfers        int // of a bank, in its table in the end
	BalancesRead     int // snapshots of all balances
	Keys             int // of requests that were tried

	Faults
}

// Faults are all sorts of fault; the package comment says what each is.
type Faults struct {
	Lost, Doubled, Phantom, Unrecorded Finding
	Altered, Disordered, Stale         Finding
	Repeated, TurnedBack, Broken       Finding
	Disagreeing, Cycles                Finding // of lists
	NotLinearizable                    Finding // of registers
	Unbalanced                         Finding // of a bank
	Unobserved                         Finding // of transfers and of keys
}

// check is one line of the verdict.
type check struct {
	name string
	of   Finding
}

func (r Result) checks() []check {
	return []check{
		{"lost", r.Lost}, {"doubled", r.Doubled}, {"phantom", r.Phantom}, {"unrecorded", r.Unrecorded},
		{"altered", r.Altered}, {"disordered", r.Disordered}, {"stale reads", r.Stale},
		{"repeated ids", r.Repeated}, {"turned back", r.TurnedBack}, {"broken invariants", r.Broken},
		{"disagreeing lists", r.Disagreeing}, {"cycles", r.Cycles}, {"not linearizable", r.NotLinearizable},
		{"unbalanced", r.Unbalanced}, {"un-observed", r.Unobserved},
	}
}

// OK reports whether nothing was found wrong. Failed and unknown operations are
// no fault of the data: a caller that accepts none looks at their counts.
func (r Result) OK() bool {
	for _, c := range r.checks() {
		if c.of.Count > 0 {
			return false
		}
	}
	return true
}

// Err is nil when OK, else an error that counts the faults.
func (r Result) Err() error {
	var faults []string
	for _, c := range r.checks() {
		if c.of.Count > 0 {
			faults = append(faults, fmt.Sprintf("%d %s (such as: %s)", c.of.Count, c.name, c.of.Examples[0]))
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("ledger of %d acknowledged transactions: %s", r.Acknowledged, strings.Join(faults, "; "))
}

// Print writes the verdict for a person.
func (r Result) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "acknowledged        %8d   found exactly once %d\n", r.Acknowledged, r.Found)
	fmt.Fprintf(&b, "failed              %8d\n", r.Failed)
	fmt.Fprintf(&b, "unknown             %8d   of these found %d\n", r.Unknown, r.UnknownFound)
	fmt.Fprintf(&b, "reads               %8d   failed %d\n", r.Reads, r.FailedReads)
	fmt.Fprintf(&b, "ids of sequences    %8d\n", r.IDs)
	fmt.Fprintf(&b, "invariants checked  %8d\n", r.Invariants)
	for _, c := range []struct {
		name string
		n    int
	}{
		{"list transactions", r.ListTransactions}, {"register operations", r.RegisterOps},
		{"transfers", r.Transfers}, {"balances read", r.BalancesRead}, {"keys", r.Keys},
	} {
		if c.n > 0 {
			fmt.Fprintf(&b, "%-19s %8d\n", c.name, c.n)
		}
	}
	for i, s := range r.Sides {
		fmt.Fprintf(&b, "side %d              %8d   acknowledged from %s to %s\n", i+1, s.Acknowledged,
			s.First.UTC().Format(timeFormat), s.Last.UTC().Format(timeFormat))
	}
	for _, c := range r.checks() {
		verdict := "ok"
		if c.of.Count > 0 {
			verdict = "FAULT"
		}
		fmt.Fprintf(&b, "%-19s %8d   %s\n", c.name, c.of.Count, verdict)
		for _, e := range c.of.Examples {
			fmt.Fprintf(&b, "    %s\n", e)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
