package cutover

import "fmt"

// Report is what `crossfade cutover --json` prints.
type Report struct {
	Outcome      Outcome    `json:"outcome"`
	Reason       string     `json:"reason"` // why it was aborted, or what blocks a plan; else empty
	Epoch        int64      `json:"epoch"`
	PauseMS      float64    `json:"pause_ms"` // gate closed to gate open, in the last attempt that closed it
	Held         HeldReport `json:"held"`
	ClientErrors int        `json:"client_errors"`
	Disconnected int        `json:"disconnected"`        // sessions that were closed because they could not be moved
	Unmovable    []string   `json:"unmovable,omitempty"` // those, and in a rehearsal those that would be, each with its reason
	Tables       int        `json:"tables"`
	Sequences    int        `json:"sequences"`
	Timeline     []Moment   `json:"timeline"` // of a dry run: the steps to come
	// Incomplete says that the request has no outcome yet: something was changed and is not undone.
	Incomplete bool     `json:"incomplete,omitempty"`
	Notes      []string `json:"notes,omitempty"`
}

// HeldReport says how long sessions were held: from the first byte held to the first byte forwarded to the new server.
type HeldReport struct {
	Sessions int     `json:"sessions"`
	P50MS    float64 `json:"p50_ms"`
	P99MS    float64 `json:"p99_ms"`
	MaxMS    float64 `json:"max_ms"`
}

// Moment is one entry of the timeline.
type Moment struct {
	Step   string  `json:"step"`
	AtMS   float64 `json:"at_ms"` // since the gate was asked to close; before that negative; where it never was: since the request
	Detail string  `json:"detail"`
}

// mostNamed is how many sessions a line names; the report's list has them all.
const mostNamed = 5

// NoWayBack is the note of every plan and report while there is no reverse stream.
const NoWayBack = "there is no way back: after the switch nothing flows from the target to the source"

// report tells what has become of a request.
func (c *Coordinator) report(o Outcome, reason string) Report {
	a := c.account
	w := a.switched.Held
	r := Report{
		Outcome: o, Reason: reason, Epoch: c.state.Epoch, PauseMS: millis(a.pause()),
		Held:         HeldReport{Sessions: w.Sessions, P50MS: millis(w.P50), P99MS: millis(w.P99), MaxMS: millis(w.Max)},
		ClientErrors: a.switched.ClientErrors, Tables: a.tables, Sequences: len(a.sequences),
		Timeline: a.times(), Incomplete: o == "", Notes: c.notes(o), Disconnected: a.disconnected, Unmovable: a.closed,
	}
	if len(r.Unmovable) == 0 {
		r.Unmovable = a.unmovable
	}
	return r
}

func (c *Coordinator) notes(o Outcome) []string {
	var notes []string
	if c.cfg.Reverse == nil {
		notes = append(notes, NoWayBack)
	}
	if n := len(c.account.census.Bypass); n > 0 {
		w := c.account.census.Bypass[0]
		notes = append(notes, fmt.Sprintf("%d sessions bypass the proxy and meet the fence, one of them pid %d (user %s, application %q)", n, w.PID, w.User, w.Application))
	}
	if n := c.account.disconnected; n > 0 {
		notes = append(notes, fmt.Sprintf("%d sessions could not be moved and were DISCONNECTED with 57P01, as --unmovable=disconnect asks: %s",
			n, joined(c.account.closed[:min(len(c.account.closed), mostNamed)])))
	} else if n := len(c.account.unmovable); n > 0 && o == OutcomeRehearsed {
		notes = append(notes, fmt.Sprintf("%d sessions would be disconnected by a cutover with --unmovable=disconnect: %s",
			n, joined(c.account.unmovable[:min(n, mostNamed)])))
	}
	if c.account.alarm != "" {
		notes = append(notes, "alarm: "+c.account.alarm)
	}
	return notes
}

// plan tells what a cutover would do: the steps of the protocol with the bound of each.
func (c *Coordinator) plan() Report {
	a := c.account
	blockers := a.blockers(c.state)
	r := c.report(OutcomePlanned, joined(blockers))
	r.Timeline = r.Timeline[:0]
	for _, st := range protocol {
		calls := st.calls
		if st.records != "" {
			r.Timeline = append(r.Timeline, Moment{Step: string(st.records), Detail: "recorded on the source before anything that belongs to it"})
			continue
		}
		var longest Op
		most := -1
		calls.each(func(o Op) {
			if b := int(phaseBound(st.phase, o, c.state.Limits)); b > most {
				longest, most = o, b
			}
		})
		r.Timeline = append(r.Timeline, Moment{Step: st.phase.String(), Detail: fmt.Sprintf("%v, at most %v", calls, phaseBound(st.phase, longest, c.state.Limits))})
	}
	r.Notes = append(r.Notes, fmt.Sprintf("the stream is %d bytes behind", a.lag.Bytes))
	return r
}
