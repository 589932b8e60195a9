package cutover

import (
	"strings"
	"time"
)

// account is what the coordinator keeps of an attempt beside the machine's state: the values that flow from one call to
// the next, and what the report tells. Run's goroutine owns it.
type account struct {
	begun    time.Time
	closedAt time.Time // the gate was asked to close, in the last attempt
	openedAt time.Time
	timeline []instant
	told     map[Note]time.Time

	census    Census
	lag       Lag
	tables    int
	sequences []Sequence
	marker    Marker
	prints    [2]*Fingerprint
	switched  SwitchReport

	unmovable    []string // sessions that cannot be moved, of the last staging
	closed       []string // those that were disconnected, of all attempts
	disconnected int

	alarm    string
	findings []string // failures of a dry run
	last     *Report  // of the request
}

// instant is an entry of the timeline before its zero is known.
type instant struct {
	step, detail string
	at           time.Time
}

// longestTimeline keeps a request that is repeated for hours from filling memory; the newest entries are dropped.
const longestTimeline = 2000

func newAccount() *account { return &account{begun: time.Now(), told: map[Note]time.Time{}} }

// repeatEvery is how often a note that repeats itself is told: a database that is away would fill log and timeline.
const repeatEvery = time.Minute

// note adds to the timeline. While calls are being repeated, false if the same was told less than repeatEvery ago.
func (a *account) note(n Note, repeating bool) bool {
	now := time.Now()
	if at, ok := a.told[n]; ok && repeating && now.Sub(at) < repeatEvery {
		return false
	}
	a.told[n] = now
	if len(a.timeline) < longestTimeline {
		a.timeline = append(a.timeline, instant{step: n.Step, detail: n.Detail, at: now})
	}
	return true
}

// observe reads times off the state's changes.
func (a *account) observe(before, after State, e Event) {
	if after.Phase != before.Phase {
		switch after.Phase {
		case PhasePause:
			a.closedAt, a.openedAt = time.Now(), time.Time{}
		case PhaseSurvey, PhaseProve:
			a.prints = [2]*Fingerprint{}
		}
	}
	switch e := e.(type) {
	case Done:
		if e.Op == OpResume || e.Op == OpSwitch {
			a.opened(before, e.Gen)
		}
	case Failed:
		if e.Class == ClassDrainTimeout {
			a.opened(before, e.Gen)
		}
		if before.Mode == ModeDryRun && e.Gen == before.Gen {
			a.findings = append(a.findings, e.Op.String()+": "+e.Reason)
		}
	}
}

func (a *account) opened(before State, gen uint64) {
	if gen == before.Gen && !a.closedAt.IsZero() && a.openedAt.IsZero() {
		a.openedAt = time.Now()
	}
}

// pause is how long the gate was closed, in the last attempt that closed it.
func (a *account) pause() time.Duration {
	if a.closedAt.IsZero() || a.openedAt.IsZero() {
		return 0
	}
	return a.openedAt.Sub(a.closedAt)
}

// zero is what the offsets of the timeline count from.
func (a *account) zero() time.Time {
	if a.closedAt.IsZero() {
		return a.begun
	}
	return a.closedAt
}

// times gives the timeline its offsets.
func (a *account) times() []Moment {
	out := make([]Moment, 0, len(a.timeline))
	for _, t := range a.timeline {
		out = append(out, Moment{Step: t.step, AtMS: millis(t.at.Sub(a.zero())), Detail: t.detail})
	}
	return out
}

// millis is a duration as the reports have it: to the microsecond.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// blockers says what a dry run has found.
func (a *account) blockers(s State) []string {
	found := append([]string(nil), a.findings...)
	if p := a.prints; p[0] != nil && p[1] != nil && p[0].Sum != p[1].Sum {
		found = append(found, "the catalogs of source and target differ: "+differences(s.Direction, *p[0], *p[1]))
	}
	if a.lag.Bytes > s.Limits.MaxLagBytes {
		found = append(found, "the stream is behind by more than --max-lag")
	}
	return found
}

func joined(list []string) string { return strings.Join(list, "; ") }
