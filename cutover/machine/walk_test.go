package machine_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
	"crossfade/cutover/machine/machinetest"
)

// stepper is Step, or a mutant of it.
type stepper func(machine.State, machine.Event) (machine.State, []machine.Effect)

// node is one point of a walk.
type node struct {
	s machine.State
	w machinetest.World
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
func rename(s machine.State) machine.State {
	s.Gen, s.Tries, s.Reason = genNow, 0, ""
	if s.GenOf.Pause != 0 {
		s.GenOf.Pause = genStop
	}
	if s.GenOf.SourceLock != 0 {
		s.GenOf.SourceLock = genLock
	}
	if s.GenOf.TargetLock != 0 {
		s.GenOf.TargetLock = genLock
	}
	if s.Phase != machine.PhaseSurvey {
		s.Survey.LagBytes, s.Survey.LagDelay, s.Survey.Bypass = 0, 0, 0
		if s.Phase != machine.PhaseProve {
			s.Survey.SourceSum, s.Survey.TargetSum = "", ""
		}
	}
	return s
}

// take performs one event at a node, with the world as it is when the event arrives, and checks the
// effects.
func (k *walker) take(n node, w machinetest.World, e machine.Event, what string) (node, bool) {
	before := n.s
	s, effects := k.step(before, e)
	if s2, effects2 := k.step(before, e); k.queue != nil && (s2 != s || !slices.Equal(effects, effects2)) {
		k.fail(n, what, fmt.Errorf("the same arguments gave another result"))
	}
	w.PhaseTimer = w.PhaseTimer && s.Gen == before.Gen
	for _, eff := range effects {
		if err := w.Forbidden(s, eff); err != nil {
			k.fail(n, what, err)
			return node{}, false
		}
		switch eff := eff.(type) {
		case machine.StartTimer:
			if eff.After <= 0 || eff.After > 25*time.Hour {
				k.fail(n, what, fmt.Errorf("a timer of %v", eff.After))
			}
			if eff.Timer == machine.TimerPhase {
				w.PhaseTimer = eff.Gen == s.Gen
			} else {
				w.PauseTimer = eff.Gen == s.GenOf.Pause
			}
		case machine.StopCalls:
			w.Lose(before, before.Pending) // those answered by this very event have no write left that matters
		case machine.Call:
			if eff.Op == machine.OpPause {
				w.Gate = "" // from the moment on that it is asked for
			}
		}
	}
	if !s.Phase.Paused() {
		w.PauseTimer = false
	}
	next := node{rename(s), w}
	if err := w.Broken(s); err != nil {
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
	for _, w := range n.w.Arrivals() {
		if err := w.Broken(n.s); err != nil {
			k.fail(n, "a lost write arrives", err)
		}
		k.push(n, node{n.s, w}, "a lost write arrives")
	}
	k.kill(n)
	k.late(n)
}

// kill ends the process by SIGKILL: everything in memory is gone, calls in flight may have been
// performed or not or may be yet.
func (k *walker) kill(n node) {
	if n.w.Kills >= maxKills {
		return
	}
	for _, applied := range []bool{true, false} {
		w := n.w
		w.Kills++
		if applied {
			n.s.Pending.Each(func(o machine.Op) { w.Do(n.s, o) })
		} else {
			w.Lose(n.s, n.s.Pending)
		}
		w.Gate, w.PhaseTimer, w.PauseTimer = "", false, false
		fresh := node{machine.Begin(n.s.Limits, n.s.WayBack), w}
		if next, ok := k.take(fresh, w, machine.Started{}, "kill -9 and start"); ok {
			k.push(n, next, "kill -9 and start")
		}
	}
}

// late sends what belongs to earlier generations; nothing may come of it.
func (k *walker) late(n node) {
	events := []machine.Event{
		machine.TimerFired{Timer: machine.TimerPhase, Gen: genLate}, machine.TimerFired{Timer: machine.TimerPause, Gen: genLate},
		machine.LockLost{Side: machine.SideSource, Gen: genLate}, machine.LockLost{Side: machine.SideTarget, Gen: genLate},
		machine.Loaded{Gen: genLate, Record: machine.Record{Step: machine.Fenced}},
		machine.RegisterRead{Op: machine.OpDecision, Gen: genLate, Epoch: n.s.Epoch, Verdict: machine.VerdictCommit},
		machine.Withdrawn{ID: n.s.Request.ID + 1}, machine.Withdrawn{},
	}
	for o := machine.Op(0); o < machine.OpCount; o++ {
		events = append(events, machine.Done{Op: o, Gen: genLate}, machine.Failed{Op: o, Gen: genLate})
		if !n.s.Pending.Has(o) {
			events = append(events, machine.Done{Op: o, Gen: genNow})
		}
	}
	if !n.s.Phase.Paused() {
		events = append(events, machine.TimerFired{Timer: machine.TimerPause, Gen: genStop})
	}
	for _, e := range events {
		if s, effects := k.step(n.s, e); s != n.s || len(effects) != 0 {
			k.fail(n, fmt.Sprintf("late %T%v", e, e), fmt.Errorf("something came of a late event: %v", effects))
		}
	}
}

// walk visits everything after a beginning. It stops at the first broken promise.
func walk(step stepper, w machinetest.World, limits machine.Limits, wayBack bool, mode machine.Mode, d machine.Direction) (map[node]trail, error) {
	k := &walker{step: step, seen: map[node]trail{}}
	start := node{machine.Begin(limits, wayBack), w}
	k.seen[start] = trail{}
	first, ok := k.take(start, w, machine.Started{}, "start")
	for ok && first.s.Phase != machine.PhaseRest {
		if first.s.Pending == 0 {
			k.fail(first, "start", fmt.Errorf("stuck in %v", first.s.Phase))
			break
		}
		var op machine.Op
		first.s.Pending.Each(func(o machine.Op) { op = o })
		world := first.w
		e := world.Do(first.s, op)
		first, ok = k.take(first, world, e, op.String())
	}
	if ok {
		first, ok = k.take(first, first.w, machine.Requested{ID: 1, Mode: mode, Direction: d}, "request")
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

var small = machine.Limits{DrainTimeout: time.Second, Attempts: 2, MaxPause: 5 * time.Second, MaxLagBytes: 100}

// walks are the beginnings from which everything is walked.
var walks = []struct {
	name    string
	w       machinetest.World
	wayBack bool
	mode    machine.Mode
	d       machine.Direction
}{
	{"cutover", machinetest.Following(), false, machine.ModeCutover, machine.Forward},
	{"rehearsal", machinetest.Following(), false, machine.ModeRehearse, machine.Forward},
	{"dry run", machinetest.Following(), false, machine.ModeDryRun, machine.Forward},
	{"fallback", machinetest.OnTarget(), true, machine.ModeCutover, machine.Reverse},
	{"rehearsed fallback", machinetest.OnTarget(), true, machine.ModeRehearse, machine.Reverse},
	{"there and back", again(machinetest.Following(), 1), true, machine.ModeCutover, machine.Forward},
	{"there and back and there", again(machinetest.Following(), 2), true, machine.ModeCutover, machine.Forward},
}

// again lets a walk ask so many times more once an attempt has ended, always for the direction that
// leads away from the active side. Each takes one of the kills, so that the walk ends; without
// wholeWalks there are none.
func again(w machinetest.World, asks int) machinetest.World {
	if w.Asks, w.Kills = asks, asks-1; !wholeWalks {
		w.Kills, w.Wanted = maxKills, true
	}
	return w
}

// wholeWalks has the walks over several requests kill the process too, retry, and look for the ways
// out of each node: that takes minutes.
var wholeWalks = os.Getenv("CROSSFADE_TEST_WALKS") != ""

// TestEveryReachableState walks, with every promise checked on the way, and goes to every reachable
// node again to ask three things there: with everything working it comes to rest; told to stop, it
// aborts where an abort is possible; killed, the next process ends it well.
func TestEveryReachableState(t *testing.T) {
	t.Parallel()
	for _, c := range walks {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			limits := small
			if c.w.Asks > 0 && !wholeWalks {
				limits.Attempts = 1
			}
			seen, err := walk(machine.Step, c.w, limits, c.wayBack, c.mode, c.d)
			require.NoError(t, err)
			t.Logf("%d nodes", len(seen))
			var phases [machine.PhaseCount]int
			k := &walker{step: machine.Step, ends: map[node]node{}}
			for n := range seen {
				phases[n.s.Phase]++
				if c.w.Asks > 0 && !wholeWalks {
					continue
				}
				if err := k.waysOut(n); err != nil {
					require.NoError(t, err, "at %+v\nworld %+v", n.s, n.w)
				}
			}
			if c.name != "cutover" {
				return
			}
			for p := machine.PhaseRest; p < machine.PhaseCount; p++ {
				if p != machine.PhaseAdvance {
					require.NotZero(t, phases[p], "phase %v was never reached", p)
				}
			}
		})
	}
}
