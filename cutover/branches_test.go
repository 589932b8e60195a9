package cutover

// branch is an event that can happen at a node, with the world as it is then.
type branch struct {
	e    Event
	w    world
	what string
}

// branches lists what can happen next: every answer of every outstanding call, every timer, and everything that comes
// from outside.
func branches(n node) []branch {
	var out []branch
	add := func(w world, e Event, what string) { out = append(out, branch{e, w, what}) }
	s := n.s
	s.Pending.each(func(o Op) {
		w := n.w
		e := w.do(s, o)
		add(w, e, o.String())
		for _, e := range otherAnswers(s, o) {
			w := n.w
			add(w, e, o.String()+" with another answer")
		}
		failures(n, o, add)
	})
	if n.w.phaseTimer {
		e := TimerFired{Timer: TimerPhase, Gen: s.Gen}
		w := n.w
		w.lose(s, s.Pending)
		add(w, e, "phase timer")
		w = n.w
		s.Pending.each(func(o Op) { w.do(s, o) })
		add(w, e, "phase timer, all calls performed")
	}
	if n.w.pauseTimer {
		w := n.w
		w.lose(s, s.Pending)
		add(w, TimerFired{Timer: TimerPause, Gen: s.PauseGen}, "pause timer")
	}
	if s.SourceLockGen != 0 {
		add(n.w, LockLost{Side: SideSource, Gen: s.SourceLockGen}, "source lock lost")
	}
	if s.TargetLockGen != 0 {
		add(n.w, LockLost{Side: SideTarget, Gen: s.TargetLockGen}, "target lock lost")
	}
	if !n.w.wanted && s.Phase != PhaseRest {
		w := n.w
		w.wanted = true
		add(w, LockWanted{}, "target lock wanted")
	}
	add(n.w, Tripped{Detail: "x"}, "tripped")
	if !s.Stopping {
		add(n.w, Stopped{}, "stop")
	}
	if s.Request != 0 {
		add(n.w, Withdrawn{ID: s.Request}, "withdrawn")
	}
	return out
}

// otherAnswers are successes that say something else than the world's plain one.
func otherAnswers(s State, o Op) []Event {
	switch o {
	case OpCensus:
		return []Event{CensusTaken{Gen: s.Gen, Bypass: 1}}
	case OpLag:
		return []Event{LagRead{Gen: s.Gen, Bytes: small.MaxLagBytes + 1}, LagRead{Gen: s.Gen, Delay: lagDelayMost + 1}}
	case OpFingerprintTarget:
		return []Event{Fingerprinted{Gen: s.Gen, Side: SideTarget, Sum: "b"}}
	case OpTake:
		return []Event{Loaded{Gen: s.Gen, Record: Record{Epoch: s.Epoch, Direction: Forward, Step: "resting"}}} // of another release
	default:
		return nil
	}
}

// failures are the ways in which a call can go wrong: without effect, performed but not told, and still on its way.
func failures(n node, o Op, add func(world, Event, string)) {
	s := n.s
	fail := func(c Class) Event { return Failed{Op: o, Gen: s.Gen, Class: c, Reason: c.String()} }
	add(n.w, fail(ClassFailure), o.String()+" fails")

	performed := n.w
	performed.do(s, o)
	add(performed, fail(ClassUnknown), o.String()+" performed, answer lost")

	inFlight := n.w
	inFlight.lose(s, ops(o))
	if inFlight != n.w {
		add(inFlight, fail(ClassUnknown), o.String()+" in flight, connection lost")
	}

	switch o {
	case OpPrelockSource, OpPrelockTarget, OpFence, OpRehearseDecision:
		add(n.w, fail(ClassLockTimeout), o.String()+" lock timeout")
	case OpStage:
		add(n.w, fail(ClassHeld), "sessions held")
	case OpPause:
		w := n.w
		w.gate = s.Active()
		add(w, fail(ClassDrainTimeout), "drain timeout")
		add(w, fail(ClassHeld), "sessions held")
	}
}
