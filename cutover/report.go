package cutover

import (
	"fmt"
	"time"

	"crossfade/cutover/machine"
)

// Report is what `crossfade cutover --json` prints.
type Report struct {
	Outcome      machine.Outcome
	Reason       string // why it was aborted, or what blocks a plan; else empty
	Epoch        int64
	PauseMS      float64    // gate closed to gate open, in the last attempt that closed it
	Held         HeldReport // in the last attempt that closed the gate
	ClientErrors int        // clients that were ended in an attempt, no matter what ended them
	Ended        []string   // those of the last attempt, each with its reason
	Disconnected int        // sessions that were closed because they could not be moved
	Unmovable    []string   // those, and in a rehearsal those that would be, each with its reason
	Tables       int
	Sequences    int
	Attempts     []AttemptReport // all of them, those too that failed
	Timeline     []Moment        // of a dry run: the steps to come
	// Of a dry run: what would refuse the cutover before it is begun, the longest open
	// transactions, the sessions that bypass the proxy, and how long the gate would be closed once
	// the last transaction has ended.
	Blockers                        []machine.Obstacle
	Transactions                    []string
	Bypass                          []string
	EstimateLeastMS, EstimateMostMS float64
	// Incomplete says that the request has no outcome yet: something was changed and is not undone.
	Incomplete bool
	Notes      []string
}

// AttemptReport is one attempt of a request.
type AttemptReport struct {
	Attempt  int
	ClosedAt time.Time // when the gate was asked to close; zero if it never was: then no client was held
	PauseMS  float64   // gate closed to gate open; 0 while it is closed
	Held     HeldReport
	Reason   string // why it failed; empty for the one that has not
}

func heldReport(w Waits) HeldReport {
	return HeldReport{Sessions: w.Sessions, P50MS: millis(w.P50), P99MS: millis(w.P99), MaxMS: millis(w.Max)}
}

// HeldReport says how long sessions were held: from the first byte held to the first byte forwarded
// to the new server.
type HeldReport struct {
	Sessions int
	P50MS    float64
	P99MS    float64
	MaxMS    float64
}

// Moment is one entry of the timeline.
type Moment struct {
	Step    string
	At      time.Time // by the wall clock; zero for a step to come
	Attempt int       // from 1; 0 outside of an attempt
	AtMS    float64   // since the gate was asked to close in the last attempt that did; before that negative; where it never was: since the request
	Detail  string
}

// mostNamed is how many sessions a line names; the report's list has them all.
const mostNamed = 5

// NoWayBack is the note of every plan and report while there is no reverse stream.
const NoWayBack = "there is no way back: after the switch nothing flows from the target to the source"

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
	machine.PhaseSurvey:   "writers, lag, sequences and definitions of both sides are looked at",
	machine.PhasePrepare:  "the triggers that will close the source are made, disabled",
	machine.PhaseRehearse: "the deciding transaction is tried on the target and rolled back",
	machine.PhaseStage:    "every session gets a connection to the target",
	machine.PhasePrelock:  "what could make the pause wait for a lock is found on both sides",
	machine.PhasePause:    "the gate closes: open transactions end, clients begin to wait",
	machine.PhaseExpel:    "connections that an earlier proxy has left on the source are ended",
	machine.PhaseFence:    "the source is closed for writes",
	machine.PhaseMarker:   "the target applies the last change of the source",
	machine.PhaseProve:    "sequences, definitions and sessions are compared, and the snapshots for the comparison opened",
	machine.PhaseDecide:   "one transaction on the target decides: before it everything leads back to the source, after it nothing does",
	machine.PhaseSwitch:   "the sessions move and the gate opens: clients go on at the target",
	machine.PhaseComplete: "in the background, foreign keys are validated and all tables compared",
}
