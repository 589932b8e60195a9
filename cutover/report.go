package cutover

import (
	"encoding/json"
	"fmt"
	"time"

	"crossfade/cutover/machine"
	"crossfade/internal/base/lists"
)

// Report is what `crossfade cutover --json` prints; its fields are a contract.
type Report struct {
	Outcome machine.Outcome `json:"outcome"`
	Reason  string          `json:"reason"` // why it was aborted, or why the cutover of a dry run would be; else empty
	Epoch   int64           `json:"epoch"`
	PauseMS float64         `json:"pause_ms"` // gate closed to gate open, in the last attempt that closed it; 0 where none did
	Held    HeldReport      `json:"held"`     // of the same attempt
	// ClientErrors counts the clients that were ended in an attempt, no matter what ended them: the
	// move, a server that went away, the hold limit. Ended names those of the last attempt, each with
	// its reason.
	ClientErrors int      `json:"client_errors"`
	Ended        []string `json:"ended,omitempty"`
	// Disconnected counts the sessions that could not be moved and were closed, as
	// --unmovable=disconnect asks; they are no client errors. Unmovable names them, in a rehearsal
	// those that would be closed, and in a dry run those that could not be moved now.
	Disconnected int             `json:"disconnected"`
	Unmovable    []string        `json:"unmovable,omitempty"`
	Tables       int             `json:"tables"`
	Sequences    int             `json:"sequences"`
	Timeline     []Moment        `json:"timeline"`           // never null; of a dry run: the steps to come
	Attempts     []AttemptReport `json:"attempts,omitempty"` // all of them, those too that failed
	// Incomplete says that the request has no outcome yet: something was changed and is not undone.
	Incomplete bool `json:"incomplete,omitempty"`
	// Of a dry run: what would refuse the cutover before it is begun, the longest open
	// transactions, the sessions that bypass the proxy, and how long the gate would be closed once
	// the last transaction of a client has ended, with idle servers and with busy ones, 0 where that
	// could not be estimated.
	Blockers        []machine.Obstacle `json:"blockers,omitempty"`
	Transactions    []string           `json:"transactions,omitempty"`
	Bypass          []string           `json:"bypass,omitempty"`
	EstimateLeastMS float64            `json:"estimate_least_ms,omitempty"`
	EstimateMostMS  float64            `json:"estimate_most_ms,omitempty"`
	// Notes are what the operator should know, such as that there is no way back.
	Notes []string `json:"notes,omitempty"`
}

// MarshalJSON writes an empty timeline as [].
func (r Report) MarshalJSON() ([]byte, error) {
	type plain Report
	r.Timeline = lists.NotNil(r.Timeline)
	return json.Marshal(plain(r))
}

// AttemptReport is one attempt of a request. What is zero was not measured: the gate was not closed
// in it, or no session was held.
type AttemptReport struct {
	Attempt  int        `json:"attempt"`
	ClosedAt time.Time  `json:"closed_at,omitzero"` // when the gate was asked to close
	PauseMS  float64    `json:"pause_ms,omitempty"` // gate closed to gate open
	Held     HeldReport `json:"held,omitzero"`
	Reason   string     `json:"reason,omitempty"` // why it failed
}

func heldReport(w Waits) HeldReport {
	return HeldReport{Sessions: w.Sessions, P50MS: millis(w.P50), P99MS: millis(w.P99), MaxMS: millis(w.Max)}
}

// HeldReport says how long sessions were held: from the first byte held to the first byte forwarded
// again, to the new server where there is one.
type HeldReport struct {
	Sessions int     `json:"sessions"`
	P50MS    float64 `json:"p50_ms"`
	P99MS    float64 `json:"p99_ms"`
	MaxMS    float64 `json:"max_ms"`
}

// Moment is one step of the timeline.
type Moment struct {
	Step   string  `json:"step"`
	AtMS   float64 `json:"at_ms"` // since the gate was asked to close in the last attempt that did; before that negative; where it never was: since the request
	Detail string  `json:"detail"`
	// At is the same by the wall clock, and Attempt the attempt that it belongs to, from 1. The steps
	// to come, of a dry run, have neither.
	At      time.Time `json:"at,omitzero"`
	Attempt int       `json:"attempt,omitempty"`
}

// mostNamed is how many sessions a line names; the report's list has them all.
const mostNamed = 5

// NoWayBack is the note of every plan and report while there is no reverse stream.
const NoWayBack = "there is no way back: after the switch nothing is replicated from the target to the source"

// reporter tells what has become of a request, from what the coordinator knows at one moment.
type reporter struct {
	state   machine.State
	account *account
	traffic Traffic
	wayBack bool
}

// report tells what has become of a request.
func (t reporter) report(o machine.Outcome, reason string) Report {
	a := t.account
	last := a.closed()
	total, ended := t.traffic.Ended()
	r := Report{
		Outcome: o, Reason: reason, Epoch: t.state.Epoch, PauseMS: millis(last.pause()), Held: heldReport(last.held),
		ClientErrors: total - a.ended, Tables: a.tables, Sequences: len(a.sequences),
		Timeline: a.times(), Incomplete: o == "", Notes: t.notes(o), Disconnected: a.disconnected, Unmovable: a.expelled,
	}
	for _, one := range a.attempts {
		r.Attempts = append(r.Attempts, AttemptReport{Attempt: one.number, ClosedAt: one.closedAt, PauseMS: millis(one.pause()), Held: heldReport(one.held), Reason: one.reason})
	}
	if len(r.Unmovable) == 0 {
		r.Unmovable = a.unmovable
	}
	if r.ClientErrors > 0 {
		r.Ended = ended
	}
	return r
}

// notes are what an operator should know in addition to the outcome.
func (t reporter) notes(o machine.Outcome) []string {
	var notes []string
	if !t.wayBack {
		notes = append(notes, NoWayBack)
	}
	if n := len(t.account.census.Bypass); n > 0 {
		notes = append(notes, fmt.Sprintf("%d sessions bypass the proxy and meet the fence, one of them %v", n, t.account.census.Bypass[0]))
	}
	if n := t.account.disconnected; n > 0 {
		notes = append(notes, fmt.Sprintf("%d sessions could not be moved and were DISCONNECTED with 57P01, as --unmovable=disconnect asks: %s",
			n, joined(t.account.expelled[:min(len(t.account.expelled), mostNamed)])))
	} else if n := len(t.account.unmovable); n > 0 && o == machine.OutcomeRehearsed {
		notes = append(notes, fmt.Sprintf("%d sessions would be disconnected by a cutover with --unmovable=disconnect: %s",
			n, joined(t.account.unmovable[:min(n, mostNamed)])))
	}
	if total, ended := t.traffic.Ended(); total > t.account.ended && len(ended) > 0 {
		notes = append(notes, fmt.Sprintf("%d clients were ended in an attempt: %s", total-t.account.ended, joined(ended[:min(len(ended), mostNamed)])))
	}
	if t.account.alarm != "" {
		notes = append(notes, "alarm: "+t.account.alarm)
	}
	return notes
}

// plan tells what a cutover would do: the steps of the protocol with the bound of each, and what it
// would meet.
func (t reporter) plan() Report {
	a := t.account
	r := t.report(machine.OutcomePlanned, joined(a.blockers(t.state)))
	r.Blockers, r.Unmovable, r.Transactions = a.obstacles, a.unmoved(), a.census.Transactions
	least, most := a.estimate()
	r.EstimateLeastMS, r.EstimateMostMS = millis(least), millis(most)
	for _, w := range a.census.Bypass {
		r.Bypass = append(r.Bypass, w.String())
	}
	r.Timeline = r.Timeline[:0]
	for _, st := range machine.Protocol {
		calls := st.Calls
		if st.Records != "" {
			r.Timeline = append(r.Timeline, Moment{Step: string(st.Records), Detail: "this step is written to the source, so that a restart knows how far it was"})
			continue
		}
		var longest machine.Op
		most := -1
		calls.Each(func(o machine.Op) {
			if b := int(machine.PhaseBound(st.Phase, o, t.state.Limits)); b > most {
				longest, most = o, b
			}
		})
		r.Timeline = append(r.Timeline, Moment{Step: st.Phase.String(), Detail: fmt.Sprintf("%s; at most %v", purposes[st.Phase], machine.PhaseBound(st.Phase, longest, t.state.Limits))})
	}
	if a.lag != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("the stream is %d bytes behind", a.lag.Bytes))
	}
	r.Notes = append(r.Notes, a.forecast(t.state.Limits))
	return r
}

// purposes says what the steps of the protocol are for, to who reads a plan.
var purposes = map[machine.Phase]string{
	machine.PhaseClaim:    "the source gives this cutover a number of its own",
	machine.PhaseSurvey:   "writers, lag, sequences and definitions of both sides are read",
	machine.PhasePrepare:  "the triggers that will close the source are created, but not enabled",
	machine.PhaseRehearse: "the deciding transaction is tried on the target and rolled back",
	machine.PhaseStage:    "every session gets a connection to the target",
	machine.PhasePrelock:  "what could make the pause wait for a lock is found on both sides",
	machine.PhasePause:    "the gate closes: open transactions end, clients begin to wait",
	machine.PhaseExpel:    "connections that an earlier proxy has left on the source are ended",
	machine.PhaseFence:    "the source is closed for writes",
	machine.PhaseMarker:   "the target applies the last change of the source",
	machine.PhaseProve:    "sequences, definitions and sessions are compared, and the snapshots for the comparison opened",
	machine.PhaseDecide:   "one transaction on the target decides: before it everything leads back to the source, after it nothing does",
	machine.PhaseSwitch:   "the sessions move and the gate opens: clients continue on the target",
	machine.PhaseComplete: "in the background, foreign keys are validated and all tables compared",
}
