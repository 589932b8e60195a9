package cutover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"crossfade/cutover/machine"
	"crossfade/internal/base/lists"
)

// account is what the coordinator keeps of an attempt in addition to the machine's state: the
// values that one call produces and another needs, and the contents of the report. It is owned by
// the goroutine of Run.
type account struct {
	begun    time.Time
	attempts []attempt // of this request, in their order
	timeline []instant
	show     func(Moment) // told of each new entry; may be nil
	told     map[machine.Note]time.Time

	census    Census
	sessions  SessionsReport
	obstacles []machine.Obstacle // of a dry run: what would refuse the cutover before it is begun
	lag       *Lag               // nil while the stream has not answered
	tables    int
	sequences []Sequence
	marker    Marker
	prints    [2]*machine.Fingerprint

	unmovable    []string // sessions that cannot be moved, of the last staging
	expelled     []string // those that were disconnected, of all attempts
	disconnected int
	ended        int // clients that had been ended before the request

	alarm    string
	findings []string // failures of a dry run
	last     *Report  // of the request
}

// attempt is what is kept of one attempt.
type attempt struct {
	number             int
	closedAt, openedAt time.Time // of the gate; zero if it was never closed
	held               Waits     // of the clients while it was closed
	reason             string    // why it failed
}

// pause is how long the gate was closed; 0 where it was not, or still is.
func (t attempt) pause() time.Duration {
	if t.closedAt.IsZero() || t.openedAt.IsZero() {
		return 0
	}
	return t.openedAt.Sub(t.closedAt)
}

// instant is an entry of the timeline before its zero is known.
type instant struct {
	step, detail string
	at           time.Time
	attempt      int
}

// longestTimeline keeps a request that is repeated for hours from filling memory; the newest
// entries are dropped.
const longestTimeline = 2000

func newAccount() *account { return &account{begun: time.Now(), told: map[machine.Note]time.Time{}} }

// repeatEvery is how often a repeated note is recorded: a database that is away would fill log and
// timeline.
const repeatEvery = time.Minute

// note adds to the timeline. While calls are being repeated it returns false if the same note was
// added less than repeatEvery ago.
func (a *account) note(n machine.Note, repeating bool) bool {
	now := time.Now()
	if at, ok := a.told[n]; ok && repeating && now.Sub(at) < repeatEvery {
		return false
	}
	a.told[n] = now
	i := instant{step: n.Step, detail: n.Detail, at: now, attempt: a.number()}
	if len(a.timeline) < longestTimeline {
		a.timeline = append(a.timeline, i)
	}
	if a.show != nil {
		a.show(a.moment(i))
	}
	return true
}

// moment gives an entry its offset.
func (a *account) moment(i instant) Moment {
	return Moment{Step: i.step, At: i.at, Attempt: i.attempt, AtMS: millis(i.at.Sub(a.zero())), Detail: i.detail}
}

// number is that of the last attempt, 0 before the first.
func (a *account) number() int {
	if n := len(a.attempts); n > 0 {
		return a.attempts[n-1].number
	}
	return 0
}

// now is the last attempt. A start recovers outside any attempt, and gets one that is never
// reported.
func (a *account) now() *attempt {
	if len(a.attempts) == 0 {
		return &attempt{}
	}
	return &a.attempts[len(a.attempts)-1]
}

// closed is the last attempt that closed the gate, or the zero attempt.
func (a *account) closed() attempt {
	for _, t := range slices.Backward(a.attempts) {
		if !t.closedAt.IsZero() {
			return t
		}
	}
	return attempt{}
}

// observe reads times off the state's changes.
func (a *account) observe(before, after machine.State, e machine.Event) {
	if after.Attempt > a.number() && after.Request.Mode != machine.ModeDryRun {
		a.attempts = append(a.attempts, attempt{number: after.Attempt})
	}
	if after.Phase != before.Phase {
		switch after.Phase {
		case machine.PhasePause:
			a.now().closedAt = time.Now()
		case machine.PhaseSurvey, machine.PhaseProve:
			a.prints = [2]*machine.Fingerprint{}
		}
	}
	if (after.Ending == machine.EndAbort || after.Ending == machine.EndRetry) && after.Reason != "" {
		a.now().reason = after.Reason
	}
	switch e := e.(type) {
	case machine.Done:
		if e.Op == machine.OpResume || e.Op == machine.OpSwitch {
			a.opened(before, e.Gen)
		}
	case machine.Failed:
		if e.Class == machine.ClassDrainTimeout {
			a.opened(before, e.Gen)
		}
		if before.Request.Mode == machine.ModeDryRun && e.Gen == before.Gen {
			a.findings = append(a.findings, e.Op.String()+": "+e.Reason)
		}
	}
}

func (a *account) opened(before machine.State, gen uint64) {
	if t := a.now(); gen == before.Gen && !t.closedAt.IsZero() && t.openedAt.IsZero() {
		t.openedAt = time.Now()
	}
}

// zero is the moment from which the offsets of the timeline count.
func (a *account) zero() time.Time {
	if t := a.closed(); !t.closedAt.IsZero() {
		return t.closedAt
	}
	return a.begun
}

// times gives the timeline its offsets.
func (a *account) times() []Moment {
	out := make([]Moment, 0, len(a.timeline))
	for _, t := range a.timeline {
		out = append(out, a.moment(t))
	}
	return out
}

// millis is a duration as the reports have it: to the microsecond.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// blockers says why the cutover that a dry run examines would fail.
func (a *account) blockers(s machine.State) []string {
	found := lists.Map(a.obstacles, func(o machine.Obstacle) string { return o.Detail })
	for _, f := range a.findings {
		if !slices.ContainsFunc(a.obstacles, func(o machine.Obstacle) bool { return strings.Contains(f, o.Detail) }) {
			found = append(found, f)
		}
	}
	if p := a.prints; p[0] != nil && p[1] != nil && p[0].Sum != p[1].Sum {
		found = append(found, "the catalogs of source and target differ: "+machine.Differences(s.Direction, *p[0], *p[1]))
	}
	if why := s.Lags(); why != "" {
		found = append(found, why)
	}
	stay := a.sessions.Red
	if s.Request.Unmovable != machine.UnmovableWait {
		stay = a.unmoved()
	}
	if n := len(stay); n > 0 && s.Request.Unmovable != machine.UnmovableDisconnect {
		found = append(found, fmt.Sprintf("%d sessions cannot be moved (see --unmovable): %s", n, joined(stay[:min(n, mostNamed)])))
	}
	return found
}

// unmoved is the sessions that an inspection found to be unmovable at present.
func (a *account) unmoved() []string { return slices.Concat(a.sessions.Red, a.sessions.Holding) }

func joined(list []string) string { return strings.Join(list, "; ") }

// The parts of a pause, in addition to the wait for open transactions. The numbers of round trips
// are those of the ports: a statement each, one after the other, from the closed gate to the open
// one.
const (
	closingTrips = 13 // expel, fence, two records, the marker on its way
	openingTrips = 7  // the marker applied, the decision
	eitherTrips  = 4  // sequences, catalogs, changed sessions and snapshots, concurrently
	perTable     = 60 * time.Microsecond
	perSequence  = 45 * time.Microsecond

	// A dry run writes nothing, so it measures no commit: the two records, the fence, the marker on
	// the target and the decision. Idle servers with a disk of their own need the first value, busy
	// ones the second.
	commits    = 5
	idleCommit = 4 * time.Millisecond
	busyCommit = 200 * time.Millisecond
	// busyTimes is how many times longer a round trip and the work for an object take on a busy
	// server than they do now.
	busyTimes = 3
)

// estimate is how long the gate would be closed after the last open transaction has ended, from the
// round trips that were measured just now and the numbers of tables and sequences: least with idle
// servers, and most with busy ones and a stream that lags as it does now. Both are 0 if a side was
// not measured.
func (a *account) estimate() (least, most time.Duration) {
	closing, opening := a.census.RoundTrips[0], a.census.RoundTrips[1]
	if closing == 0 || opening == 0 {
		return 0, 0
	}
	known := closingTrips*closing + openingTrips*opening + eitherTrips*max(closing, opening) +
		time.Duration(a.tables)*perTable + time.Duration(len(a.sequences))*perSequence
	least, most = known+commits*idleCommit, busyTimes*known+commits*busyCommit
	if a.lag != nil {
		most += a.lag.Delay
	}
	return least, most
}

// forecast puts into words how long the pause would be.
func (a *account) forecast(l machine.Limits) string {
	text := "the pause cannot be estimated: a side did not answer"
	if least, most := a.estimate(); least > 0 {
		text = fmt.Sprintf("estimated pause: %v to %v, from the present round trips, tables and sequences; how long the servers take to commit is not known, and the estimate does not allow for a growing load or a slower network; "+
			"before the pause, open transactions may take up to --drain-timeout (%v) to end", least.Round(time.Millisecond), most.Round(time.Millisecond), l.DrainTimeout)
	}
	if a.last != nil && a.last.PauseMS > 0 {
		text += fmt.Sprintf("; epoch %d, which has %s, paused for %.1f ms", a.last.Epoch, a.last.Outcome, a.last.PauseMS)
	}
	return text
}
