package cutover

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stepper is Step, or a mutant of it.
type stepper func(State, Event) (State, []Effect)

// node is one point of a walk.
type node struct {
	s State
	w world
}

// walker visits every (state, world) that can be reached, and checks every promise at each.
type walker struct {
	step  stepper
	seen  map[node]trail
	ends  map[node]node // see settle
	queue []node
	err   error
}

// trail says how a node was reached first.
type trail struct {
	from node
	what string
}

const (
	genNow  = 10 // generations are renamed so that a walk ends: only their being equal matters
	genLock = 5
	genStop = 4
	genLate = 3

	maxKills = 2
)

// rename gives equal states equal names.
func rename(s State) State {
	s.Gen, s.Tries, s.Reason = genNow, 0, ""
	if s.PauseGen != 0 {
		s.PauseGen = genStop
	}
	if s.SourceLockGen != 0 {
		s.SourceLockGen = genLock
	}
	if s.TargetLockGen != 0 {
		s.TargetLockGen = genLock
	}
	if s.Phase != PhaseSurvey {
		s.LagBytes, s.LagDelay, s.Bypass = 0, 0, 0
		if s.Phase != PhaseProve {
			s.SourceSum, s.TargetSum = "", ""
		}
	}
	return s
}

// take performs one event at a node, with the world as it is when the event arrives, and checks the effects.
func (k *walker) take(n node, w world, e Event, what string) (node, bool) {
	before := n.s
	s, effects := k.step(before, e)
	if s2, effects2 := k.step(before, e); k.queue != nil && (s2 != s || !slices.Equal(effects, effects2)) {
		k.fail(n, what, fmt.Errorf("the same arguments gave another result"))
	}
	w.phaseTimer = w.phaseTimer && s.Gen == before.Gen
	for _, eff := range effects {
		if err := w.forbidden(s, eff); err != nil {
			k.fail(n, what, err)
			return node{}, false
		}
		switch eff := eff.(type) {
		case StartTimer:
			if eff.After <= 0 || eff.After > 25*time.Hour {
				k.fail(n, what, fmt.Errorf("a timer of %v", eff.After))
			}
			if eff.Timer == TimerPhase {
				w.phaseTimer = eff.Gen == s.Gen
			} else {
				w.pauseTimer = eff.Gen == s.PauseGen
			}
		case StopCalls:
			w.lose(before, before.Pending) // those answered by this very event have no write left that matters
		case Call:
			if eff.Op == OpPause {
				w.gate = "" // from the moment on that it is asked for
			}
		}
	}
	if !s.Phase.paused() {
		w.pauseTimer = false
	}
	next := node{rename(s), w}
	if err := w.broken(s); err != nil {
		k.fail(n, what, fmt.Errorf("%w (then in phase %v)", err, s.Phase))
		return next, false
	}
	return next, true
}

func (k *walker) fail(n node, what string, err error) {
	if k.err != nil {
		return
	}
	path := []string{what}
	for at, ok := k.seen[n]; ok && at.what != ""; at, ok = k.seen[at.from] {
		path = append(path, at.what)
	}
	slices.Reverse(path)
	k.err = fmt.Errorf("%w\n  after: %s", err, strings.Join(path, "\n         "))
}

func (k *walker) push(from node, next node, what string) {
	if _, ok := k.seen[next]; !ok {
		k.seen[next] = trail{from, what}
		k.queue = append(k.queue, next)
	}
}

// visit goes along every edge that leads out of a node.
func (k *walker) visit(n node) {
	for _, b := range branches(n) {
		if next, ok := k.take(n, b.w, b.e, b.what); ok {
			k.push(n, next, b.what)
		}
	}
	for _, w := range n.w.arrivals() {
		if err := w.broken(n.s); err != nil {
			k.fail(n, "a lost write arrives", err)
		}
		k.push(n, node{n.s, w}, "a lost write arrives")
	}
	k.kill(n)
	k.late(n)
}

// kill ends the process by SIGKILL: everything in memory is gone, calls in flight may have been performed or not or
// may be yet.
func (k *walker) kill(n node) {
	if n.w.kills >= maxKills {
		return
	}
	for _, applied := range []bool{true, false} {
		w := n.w
		w.kills++
		if applied {
			n.s.Pending.each(func(o Op) { w.do(n.s, o) })
		} else {
			w.lose(n.s, n.s.Pending)
		}
		w.gate, w.phaseTimer, w.pauseTimer = "", false, false
		fresh := node{Begin(n.s.Limits, n.s.WayBack), w}
		if next, ok := k.take(fresh, w, Started{}, "kill -9 and start"); ok {
			k.push(n, next, "kill -9 and start")
		}
	}
}

// late sends what belongs to earlier generations; nothing may come of it.
func (k *walker) late(n node) {
	events := []Event{
		TimerFired{Timer: TimerPhase, Gen: genLate}, TimerFired{Timer: TimerPause, Gen: genLate},
		LockLost{Side: SideSource, Gen: genLate}, LockLost{Side: SideTarget, Gen: genLate},
		Loaded{Gen: genLate, Record: Record{Step: Fenced}},
		RegisterRead{Op: OpDecision, Gen: genLate, Epoch: n.s.Epoch, Verdict: VerdictCommit},
		Withdrawn{ID: n.s.Request + 1}, Withdrawn{},
	}
	for o := Op(0); o < opCount; o++ {
		events = append(events, Done{Op: o, Gen: genLate}, Failed{Op: o, Gen: genLate})
		if !n.s.Pending.has(o) {
			events = append(events, Done{Op: o, Gen: genNow})
		}
	}
	if !n.s.Phase.paused() {
		events = append(events, TimerFired{Timer: TimerPause, Gen: genStop})
	}
	for _, e := range events {
		if s, effects := k.step(n.s, e); s != n.s || len(effects) != 0 {
			k.fail(n, fmt.Sprintf("late %T%v", e, e), fmt.Errorf("something came of a late event: %v", effects))
		}
	}
}

// walk visits everything after a beginning. It stops at the first broken promise.
func walk(step stepper, w world, limits Limits, wayBack bool, mode Mode, d Direction) (map[node]trail, error) {
	k := &walker{step: step, seen: map[node]trail{}}
	start := node{Begin(limits, wayBack), w}
	k.seen[start] = trail{}
	first, ok := k.take(start, w, Started{}, "start")
	for ok && first.s.Phase != PhaseRest {
		if first.s.Pending == 0 {
			k.fail(first, "start", fmt.Errorf("stuck in %v", first.s.Phase))
			break
		}
		var op Op
		first.s.Pending.each(func(o Op) { op = o })
		world := first.w
		e := world.do(first.s, op)
		first, ok = k.take(first, world, e, op.String())
	}
	if ok {
		first, ok = k.take(first, first.w, Requested{ID: 1, Mode: mode, Direction: d}, "request")
	}
	if ok {
		k.push(start, first, "request")
	}
	for len(k.queue) > 0 && k.err == nil {
		n := k.queue[0]
		k.queue = k.queue[1:]
		k.visit(n)
	}
	return k.seen, k.err
}

var small = Limits{DrainTimeout: time.Second, Attempts: 2, MaxPause: 5 * time.Second, MaxLagBytes: 100}

// walks are the beginnings from which everything is walked.
var walks = []struct {
	name    string
	w       world
	wayBack bool
	mode    Mode
	d       Direction
}{
	{"cutover", following(), false, ModeCutover, Forward},
	{"rehearsal", following(), false, ModeRehearse, Forward},
	{"dry run", following(), false, ModeDryRun, Forward},
	{"fallback", onTarget(), true, ModeCutover, Reverse},
}

// TestEveryReachableState walks, with every promise checked on the way, and goes to every reachable node again to ask
// three things there: with everything working it comes to rest; told to stop, it aborts where an abort is possible;
// killed, the next process ends it well.
func TestEveryReachableState(t *testing.T) {
	t.Parallel()
	for _, c := range walks {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			seen, err := walk(Step, c.w, small, c.wayBack, c.mode, c.d)
			require.NoError(t, err)
			t.Logf("%d nodes", len(seen))
			var phases [phaseCount]int
			k := &walker{step: Step, ends: map[node]node{}}
			for n := range seen {
				phases[n.s.Phase]++
				if err := k.waysOut(n); err != nil {
					require.NoError(t, err, "at %+v\nworld %+v", n.s, n.w)
				}
			}
			if c.name != "cutover" {
				return
			}
			for p := PhaseRest; p < phaseCount; p++ {
				if p != PhaseAdvance {
					require.NotZero(t, phases[p], "phase %v was never reached", p)
				}
			}
		})
	}
}
