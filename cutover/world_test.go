package cutover

import "fmt"

// world is a model of what lies outside of the machine: the journal's row, the decision register, the fences of both
// sides and the gate, as far as the promises are about them. It is comparable, so that a walk can tell where it has been.
type world struct {
	epoch     int64
	direction Direction
	step      StepName

	register Verdict // of the one epoch that a walk claims
	claimed  int64   // that epoch
	source   bool    // takes writes
	target   bool
	gate     Side // "" is closed

	phaseTimer bool // the timer of the current phase runs
	pauseTimer bool
	lost       lost // writes whose caller no longer waits for them, but which may still arrive
	kills      int
	wanted     bool // the applier has met TRUNCATE once
	stolen     bool // the row's owner token is not the one that the process knows
}

// lost holds the writes in flight that nobody waits for any more.
type lost struct {
	take, claim, fence, unfence, decide, reject bool
	from, to                                    StepName
}

// following is a world before the first cutover; onTarget one after it.
func following() world {
	return world{direction: Forward, step: Following, source: true, register: VerdictAbsent, claimed: 1}
}

func onTarget() world {
	return world{epoch: 1, direction: Forward, step: Decided, target: true, register: VerdictAbsent, claimed: 2}
}

func (w *world) open(s Side) *bool {
	if s == SideTarget {
		return &w.target
	}
	return &w.source
}

// verdict is what the register says about an epoch. The epoch before the claimed one, where there is one, was a commit.
func (w *world) verdict(epoch int64) Verdict {
	switch {
	case epoch == w.claimed:
		return w.register
	case epoch >= 1 && epoch < w.claimed:
		return VerdictCommit
	default:
		return VerdictAbsent
	}
}

// do performs a call as the ports promise to, and returns what comes back. The state gives what the effect carried.
func (w *world) do(s State, op Op) Event {
	conflict := Failed{Op: op, Gen: s.Gen, Class: ClassConflict, Reason: "moved"}
	done := Done{Op: op, Gen: s.Gen}
	switch op {
	case OpTake:
		w.stolen = false
		w.lost.claim, w.lost.fence, w.lost.unfence, w.lost.from, w.lost.to = false, false, false, "", ""
		return Loaded{Gen: s.Gen, Record: Record{Epoch: w.epoch, Direction: w.direction, Step: w.step}}
	case OpClaim:
		if !w.claim(s.Epoch, s.Direction) {
			return conflict
		}
	case OpRecord:
		if s.Epoch != w.epoch || !w.record(s.recordedBefore(), s.Recording) {
			return conflict
		}
	case OpFence:
		if !w.fence() {
			return conflict
		}
	case OpUnfence:
		if !w.unfence() {
			return conflict
		}
	case OpDecide:
		if !w.decide() {
			return conflict
		}
	case OpDecision:
		if s.Phase == PhaseNewest {
			if w.target {
				return RegisterRead{Op: op, Gen: s.Gen, Epoch: w.openedTarget(), Verdict: VerdictCommit}
			}
			return RegisterRead{Op: op, Gen: s.Gen, Verdict: VerdictAbsent}
		}
		return RegisterRead{Op: op, Gen: s.Gen, Epoch: s.Epoch, Verdict: w.verdict(s.Epoch)}
	case OpReject:
		w.reject()
		return RegisterRead{Op: op, Gen: s.Gen, Epoch: s.Epoch, Verdict: w.verdict(s.Epoch)}
	case OpCensus:
		return CensusTaken{Gen: s.Gen}
	case OpLag:
		return LagRead{Gen: s.Gen}
	case OpFingerprintSource:
		return Fingerprinted{Gen: s.Gen, Side: SideSource, Sum: "a"}
	case OpFingerprintTarget:
		return Fingerprinted{Gen: s.Gen, Side: SideTarget, Sum: "a"}
	case OpPause:
		w.gate = ""
	case OpResume:
		w.gate = s.Active()
	case OpSwitch:
		w.gate = s.Active()
	}
	return done
}

func (w *world) openedTarget() int64 {
	if w.direction == Forward && w.register == VerdictCommit {
		return w.claimed
	}
	return w.claimed - 1
}

func (w *world) claim(epoch int64, d Direction) bool {
	if w.stolen || w.epoch != epoch-1 || !w.step.Resting() {
		return false
	}
	w.epoch, w.direction, w.step = epoch, d, Arming
	return true
}

func (w *world) record(from, to StepName) bool {
	if w.stolen || w.step != from {
		return false
	}
	w.step = to
	return true
}

func (w *world) fence() bool {
	if w.stolen || w.step != Pausing {
		return false
	}
	w.step = Fenced
	*w.open(w.direction.Closing()) = false
	return true
}

func (w *world) unfence() bool {
	if w.stolen || w.step != Fenced && w.step != Draining && w.step != Deciding {
		return false
	}
	w.step = Idle
	*w.open(w.direction.Closing()) = true
	return true
}

func (w *world) decide() bool {
	if w.register != VerdictAbsent {
		return false
	}
	w.register = VerdictCommit
	*w.open(w.direction.Opening()) = true
	return true
}

func (w *world) reject() {
	if w.register == VerdictAbsent {
		w.register = VerdictAbort
	}
}

// lose forgets the callers of calls: their writes may still arrive.
func (w *world) lose(s State, calls OpSet) {
	calls.each(func(o Op) {
		switch o {
		case OpTake:
			w.lost.take = true
		case OpClaim:
			w.lost.claim = true
		case OpFence:
			w.lost.fence = true
		case OpUnfence:
			w.lost.unfence = true
		case OpDecide:
			w.lost.decide = true
		case OpReject:
			w.lost.reject = true
		case OpRecord:
			w.lost.from, w.lost.to = s.recordedBefore(), s.Recording
		}
	})
}

// arrivals are the worlds in which one more of the lost writes has arrived.
func (w world) arrivals() []world {
	var out []world
	add := func(there bool, arrive func(*world)) {
		if there {
			n := w
			arrive(&n)
			out = append(out, n)
		}
	}
	add(w.lost.take, func(n *world) { n.lost.take, n.stolen = false, true }) // only the token is changed by it
	add(w.lost.claim, func(n *world) { n.lost.claim = false; n.claim(n.claimed, claimDirection(n)) })
	add(w.lost.fence, func(n *world) { n.lost.fence = false; n.fence() })
	add(w.lost.unfence, func(n *world) { n.lost.unfence = false; n.unfence() })
	add(w.lost.decide, func(n *world) { n.lost.decide = false; n.decide() })
	add(w.lost.reject, func(n *world) { n.lost.reject = false; n.reject() })
	add(w.lost.to != "", func(n *world) {
		from, to := n.lost.from, n.lost.to
		n.lost.from, n.lost.to = "", ""
		n.record(from, to)
	})
	return out
}

func claimDirection(w *world) Direction {
	if w.claimed > 1 {
		return Reverse
	}
	return Forward
}

// broken says which promise does not hold in a world with this state.
func (w world) broken(s State) error {
	switch {
	case w.source && w.target:
		return fmt.Errorf("both sides take writes")
	case w.gate != "" && !*w.open(w.gate):
		return fmt.Errorf("the gate is open to the %s, which is fenced", w.gate)
	case s.Phase != PhaseRest && s.Phase != PhaseStart && !w.phaseTimer:
		return fmt.Errorf("nothing bounds phase %v", s.Phase)
	case s.Phase.paused() && w.gate == "" && !w.pauseTimer:
		return fmt.Errorf("nothing bounds the pause in phase %v", s.Phase)
	}
	if s.Phase != PhaseRest {
		return nil
	}
	switch {
	case s.Held != 0:
		return fmt.Errorf("at rest with %v held", s.Held)
	case !s.Step.Resting():
		return fmt.Errorf("at rest in step %s", s.Step)
	case w.gate != s.Active():
		return fmt.Errorf("at rest with the gate open to %q, active is %s", w.gate, s.Active())
	case s.Step != Decided && s.Step != Finished && w.step != s.Step:
		return fmt.Errorf("at rest in step %s, the journal says %s", s.Step, w.step)
	case s.Epoch == w.claimed && (s.Step == Decided || s.Step == Finished) != (w.register == VerdictCommit):
		return fmt.Errorf("at rest in step %s, the register says %s", s.Step, w.register)
	case s.Request != 0:
		return fmt.Errorf("at rest with a request not answered")
	}
	return nil
}

// forbidden says which promise an effect breaks in the world in which it is asked for.
func (w world) forbidden(s State, e Effect) error {
	need := func(steps ...StepName) error {
		for _, n := range steps {
			if w.step == n && w.epoch == s.Epoch {
				return nil
			}
		}
		return fmt.Errorf("%v while the journal says %s of epoch %d", e, w.step, w.epoch)
	}
	c, ok := e.(Call)
	if !ok {
		return nil
	}
	if s.Step == Decided && (c.Op == OpUnfence || c.Op == OpResume || c.Op == OpFence || c.Op == OpPause || c.Op == OpReject) {
		return fmt.Errorf("%v after the decision", c.Op)
	}
	switch c.Op {
	case OpStage, OpPrelockSource, OpPrelockTarget:
		if s.Phase != PhaseProve {
			return need(Arming)
		}
	case OpPause, OpExpel, OpFence:
		return need(Pausing)
	case OpWaitMarker:
		return need(Draining)
	case OpDecide:
		return need(Deciding)
	case OpUnfence:
		if w.verdict(s.Epoch) != VerdictAbort && w.step == Deciding {
			return fmt.Errorf("unfence while the register says %q", w.verdict(s.Epoch))
		}
		return need(Fenced, Draining, Deciding)
	case OpResume:
		if !w.step.Resting() && w.step != Arming {
			return fmt.Errorf("resume while the journal says %s", w.step)
		}
	case OpSwitch:
		if s.Step == Decided && w.verdict(s.Epoch) != VerdictCommit {
			return fmt.Errorf("switch while the register says %q", w.verdict(s.Epoch))
		}
		if !*w.open(c.To) {
			return fmt.Errorf("switch to the %s, which is fenced", c.To)
		}
	}
	return nil
}
