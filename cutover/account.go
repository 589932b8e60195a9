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
