package machine_test

import (
	"crossfade/cutover/machine"
	"crossfade/cutover/machine/machinetest"
)

// branch is an event that can happen at a node, with the world as it is then.
type branch struct {
	e    machine.Event
	w    machinetest.World
	what string
}

// branches lists what can happen next: every answer of every outstanding call, every timer, and
// everything that comes from outside.
func branches(n node) []branch {
	var out []branch
	add := func(w machinetest.World, e machine.Event, what string) { out = append(out, branch{e, w, what}) }
	s := n.s
	s.Pending.Each(func(o machine.Op) {
		w := n.w
		e := w.Do(s, o)
		add(w, e, o.String())
		for _, e := range otherAnswers(s, n.w, o) {
			w := n.w
			add(w, e, o.String()+" with another answer")
		}
		failures(n, o, add)
	})
	if n.w.PhaseTimer {
		e := machine.TimerFired{Timer: machine.TimerPhase, Gen: s.Gen}
		w := n.w
		w.Lose(s, s.Pending)
		add(w, e, "phase timer")
		w = n.w
		s.Pending.Each(func(o machine.Op) { w.Do(s, o) })
		add(w, e, "phase timer, all calls performed")
	}
	if n.w.PauseTimer {
		w := n.w
		w.Lose(s, s.Pending)
		add(w, machine.TimerFired{Timer: machine.TimerPause, Gen: s.GenOf.Pause}, "pause timer")
	}
	if s.GenOf.SourceLock != 0 {
		add(n.w, machine.LockLost{Side: machine.SideSource, Gen: s.GenOf.SourceLock}, "source lock lost")
	}
	if s.GenOf.TargetLock != 0 {
		add(n.w, machine.LockLost{Side: machine.SideTarget, Gen: s.GenOf.TargetLock}, "target lock lost")
	}
	if !n.w.Wanted && s.Phase != machine.PhaseRest {
		w := n.w
		w.Wanted = true
		add(w, machine.LockWanted{}, "target lock wanted")
	}
	add(n.w, machine.Tripped{Detail: "x"}, "tripped")
	if !s.Stopping {
		add(n.w, machine.Stopped{}, "stop")
	}
	if n.w.Asks > 0 && !s.Stopping {
		w := n.w
		if d := machine.Forward; s.RefuseCutover(d) == nil || s.RefuseCutover(machine.Reverse) == nil {
			if s.Active() == machine.SideTarget {
				d = machine.Reverse
			}
			w.Asks--
			add(w, machine.Requested{ID: uint64(10 + w.Asks), Direction: d}, "asked for the other direction")
		}
	}
	if s.Request.ID != 0 {
		add(n.w, machine.Withdrawn{ID: s.Request.ID}, "withdrawn")
	}
	return out
}

// otherAnswers are successes that say something else than the world's plain one.
func otherAnswers(s machine.State, w machinetest.World, o machine.Op) []machine.Event {
	switch o {
	case machine.OpCensus:
		return []machine.Event{machine.CensusTaken{Gen: s.Gen, Bypass: 1}}
	case machine.OpLag:
		return []machine.Event{machine.LagRead{Gen: s.Gen, Bytes: small.MaxLagBytes + 1}, machine.LagRead{Gen: s.Gen, Delay: machine.LagDelayMost + 1}}
	case machine.OpFingerprintTarget:
		return []machine.Event{machine.Fingerprinted{Gen: s.Gen, Side: machine.SideTarget, Sum: "b"}}
	case machine.OpTake:
		out := []machine.Event{machine.Loaded{Gen: s.Gen, Record: machine.Record{Epoch: s.Epoch, Direction: machine.Forward, Step: "resting"}}} // of another release
		if r, ok := w.OpeningRow(); ok {
			out = append(out, machine.Loaded{Gen: s.Gen, Record: r})
		}
		return out
	default:
		return nil
	}
}

// failures are the ways in which a call can go wrong: without effect, performed but not told, and
// still on its way.
func failures(n node, o machine.Op, add func(machinetest.World, machine.Event, string)) {
	s := n.s
	fail := func(c machine.Class) machine.Event {
		return machine.Failed{Op: o, Gen: s.Gen, Class: c, Reason: c.String()}
	}
	add(n.w, fail(machine.ClassFailure), o.String()+" fails")

	performed := n.w
	performed.Do(s, o)
	add(performed, fail(machine.ClassUnknown), o.String()+" performed, answer lost")

	inFlight := n.w
	inFlight.Lose(s, machine.Ops(o))
	if inFlight != n.w {
		add(inFlight, fail(machine.ClassUnknown), o.String()+" in flight, connection lost")
	}

	switch o {
	case machine.OpPrelockSource, machine.OpPrelockTarget, machine.OpFence, machine.OpRehearseDecision:
		add(n.w, fail(machine.ClassLockTimeout), o.String()+" lock timeout")
	case machine.OpStage:
		add(n.w, fail(machine.ClassHeld), "sessions held")
	case machine.OpPause:
		w := n.w
		w.Gate = s.Active()
		add(w, fail(machine.ClassDrainTimeout), "drain timeout")
		add(w, fail(machine.ClassHeld), "sessions held")
	}
}
