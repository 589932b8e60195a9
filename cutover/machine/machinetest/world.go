// Package machinetest models what is outside the machine, for tests of the machine and of the
// coordinator.
package machinetest

import (
	"fmt"

	"crossfade/cutover/machine"
)

// World is a model of what lies outside of the machine: the journal's row, the decision register,
// the fences of both sides and the gate, as far as the promises are about them. It is comparable,
// so that a walk can tell where it has been.
//
// The journal has a row on each side. Here they are one, the closing side's of the epoch: the
// opening side's is written by the decision alone, and says what the register says.
type World struct {
	Epoch     int64
	Direction machine.Direction
	Step      machine.StepName

	Register machine.Verdict // of the newest epoch that a walk claims
	Claimed  int64           // that epoch
	Commit   int64           // the newest epoch that was decided with commit; 0 for none
	Asks     int             // requests that the walk may still make
	Source   bool            // takes writes
	Target   bool
	Gate     machine.Side // "" is closed

	PhaseTimer bool // the timer of the current phase runs
	PauseTimer bool
	lost       lost // writes whose caller no longer waits for them, but which may still arrive
	Kills      int
	Wanted     bool // the applier has met TRUNCATE once
	stolen     bool // the row's owner token is not the one that the process knows
}

// lost holds the writes in flight whose result is no longer waited for.
type lost struct {
	take, claim, fence, unfence, decide, reject bool
	from, to                                    machine.StepName
	direction                                   machine.Direction // of claim
}

// Following is a world before the first cutover; onTarget one after it.
func Following() World {
	return World{Direction: machine.Forward, Step: machine.Following, Source: true, Register: machine.VerdictAbsent, Claimed: 1}
}

func OnTarget() World {
	return World{Epoch: 1, Direction: machine.Forward, Step: machine.Decided, Target: true, Register: machine.VerdictAbsent, Claimed: 2, Commit: 1}
}

func (w *World) Open(s machine.Side) *bool {
	if s == machine.SideTarget {
		return &w.Target
	}
	return &w.Source
}

// Verdict is what the register says about an epoch.
func (w *World) Verdict(epoch int64) machine.Verdict {
	switch {
	case epoch == w.Claimed:
		return w.Register
	case epoch >= 1 && epoch == w.Commit:
		return machine.VerdictCommit
	default:
		return machine.VerdictAbsent
	}
}

// Do performs a call as the ports promise to, and returns what comes back. The state gives what the
// effect carried.
func (w *World) Do(s machine.State, op machine.Op) machine.Event {
	stands := true // what the call expects of the row
	switch op {
	case machine.OpTake:
		w.stolen = false
		w.lost.claim, w.lost.fence, w.lost.unfence, w.lost.from, w.lost.to = false, false, false, "", ""
		return machine.Loaded{Gen: s.Gen, Record: machine.Record{Epoch: w.Epoch, Direction: w.Direction, Step: w.Step}}
	case machine.OpClaim:
		stands = w.Claim(s.Epoch, s.Direction)
	case machine.OpRecord:
		stands = s.Epoch == w.Epoch && w.Record(s.RecordedBefore(), s.Recording)
	case machine.OpFence:
		stands = w.Fence()
	case machine.OpUnfence:
		stands = w.Unfence()
	case machine.OpDecide:
		stands = w.Decide()
	case machine.OpDecision:
		return machine.RegisterRead{Op: op, Gen: s.Gen, Epoch: s.Epoch, Verdict: w.Verdict(s.Epoch)}
	case machine.OpReject:
		w.Reject()
		return machine.RegisterRead{Op: op, Gen: s.Gen, Epoch: s.Epoch, Verdict: w.Verdict(s.Epoch)}
	case machine.OpCensus:
		return machine.CensusTaken{Gen: s.Gen}
	case machine.OpLag:
		return machine.LagRead{Gen: s.Gen}
	case machine.OpFingerprintSource:
		return machine.Fingerprinted{Gen: s.Gen, Side: machine.SideSource, Sum: "a"}
	case machine.OpFingerprintTarget:
		return machine.Fingerprinted{Gen: s.Gen, Side: machine.SideTarget, Sum: "a"}
	case machine.OpPause:
		w.Gate = ""
	case machine.OpResume, machine.OpSwitch:
		w.Gate = s.Active()
	}
	if !stands {
		return machine.Failed{Op: op, Gen: s.Gen, Class: machine.ClassConflict, Reason: "moved"}
	}
	return machine.Done{Op: op, Gen: s.Gen}
}

// decided reports whether the epoch of the row was decided with commit, whether the closing side's
// row says so or not.
func (w *World) decided() bool {
	return w.Step == machine.Deciding && w.Verdict(w.Epoch) == machine.VerdictCommit
}

// Claim begins an epoch, on the row of the side that it closes, which is the active one. Of earlier
// epochs nothing can arrive any more that the row or the register would let succeed.
func (w *World) Claim(epoch int64, d machine.Direction) bool {
	if w.stolen || w.Epoch != epoch-1 || !w.Step.Resting() && !w.decided() {
		return false
	}
	if epoch > w.Claimed {
		w.Claimed, w.Register = epoch, machine.VerdictAbsent
		w.lost = lost{take: w.lost.take}
	}
	w.Epoch, w.Direction, w.Step = epoch, d, machine.Arming
	return true
}

// OpeningRow is the row that the decision of the newest epoch has written, ok if it has: a taking
// returns it if the closing side does not answer.
func (w *World) OpeningRow() (r machine.Record, ok bool) {
	return machine.Record{Epoch: w.Epoch, Direction: w.Direction, Step: machine.Decided}, w.Verdict(w.Epoch) == machine.VerdictCommit
}

func (w *World) Record(from, to machine.StepName) bool {
	if w.stolen || w.Step != from {
		return false
	}
	w.Step = to
	return true
}

func (w *World) Fence() bool {
	if w.stolen || w.Step != machine.Pausing {
		return false
	}
	w.Step = machine.Fenced
	*w.Open(w.Direction.Closing()) = false
	return true
}

func (w *World) Unfence() bool {
	if w.stolen || w.Step != machine.Fenced && w.Step != machine.Draining && w.Step != machine.Deciding {
		return false
	}
	w.Step = machine.Idle
	*w.Open(w.Direction.Closing()) = true
	return true
}

func (w *World) Decide() bool {
	if w.Register != machine.VerdictAbsent {
		return false
	}
	w.Register, w.Commit = machine.VerdictCommit, w.Claimed
	*w.Open(w.Direction.Opening()) = true
	return true
}

func (w *World) Reject() {
	if w.Register == machine.VerdictAbsent {
		w.Register = machine.VerdictAbort
	}
}

// Lose forgets the callers of calls: their writes may still arrive.
func (w *World) Lose(s machine.State, calls machine.OpSet) {
	calls.Each(func(o machine.Op) {
		switch o {
		case machine.OpTake:
			w.lost.take = true
		case machine.OpClaim:
			w.lost.claim, w.lost.direction = true, s.Direction
		case machine.OpFence:
			w.lost.fence = true
		case machine.OpUnfence:
			w.lost.unfence = true
		case machine.OpDecide:
			w.lost.decide = true
		case machine.OpReject:
			w.lost.reject = true
		case machine.OpRecord:
			w.lost.from, w.lost.to = s.RecordedBefore(), s.Recording
		}
	})
}

// Arrivals are the worlds in which one more of the lost writes has arrived.
func (w World) Arrivals() []World {
	var out []World
	add := func(there bool, arrive func(*World)) {
		if there {
			n := w
			arrive(&n)
			out = append(out, n)
		}
	}
	add(w.lost.take, func(n *World) { n.lost.take, n.stolen = false, true }) // only the token is changed by it
	add(w.lost.claim, func(n *World) { n.lost.claim = false; n.Claim(n.Claimed, n.lost.direction) })
	add(w.lost.fence, func(n *World) { n.lost.fence = false; n.Fence() })
	add(w.lost.unfence, func(n *World) { n.lost.unfence = false; n.Unfence() })
	add(w.lost.decide, func(n *World) { n.lost.decide = false; n.Decide() })
	add(w.lost.reject, func(n *World) { n.lost.reject = false; n.Reject() })
	add(w.lost.to != "", func(n *World) {
		from, to := n.lost.from, n.lost.to
		n.lost.from, n.lost.to = "", ""
		n.Record(from, to)
	})
	return out
}

// Broken says which promise does not hold in a world with this state.
func (w World) Broken(s machine.State) error {
	switch {
	case w.Source && w.Target:
		return fmt.Errorf("both sides take writes")
	case w.Gate != "" && !*w.Open(w.Gate):
		return fmt.Errorf("the gate is open to the %s, which is fenced", w.Gate)
	case s.Phase != machine.PhaseRest && s.Phase != machine.PhaseStart && !w.PhaseTimer:
		return fmt.Errorf("nothing bounds phase %v", s.Phase)
	case s.Phase.Paused() && w.Gate == "" && !w.PauseTimer:
		return fmt.Errorf("nothing bounds the pause in phase %v", s.Phase)
	}
	if s.Phase != machine.PhaseRest {
		return nil
	}
	switch {
	case s.Held != 0:
		return fmt.Errorf("at rest with %v held", s.Held)
	case !s.Step.Resting():
		return fmt.Errorf("at rest in step %s", s.Step)
	case w.Gate != s.Active():
		return fmt.Errorf("at rest with the gate open to %q, active is %s", w.Gate, s.Active())
	case s.Step != machine.Decided && s.Step != machine.Finished && w.Step != s.Step:
		return fmt.Errorf("at rest in step %s, the journal says %s", s.Step, w.Step)
	case s.Epoch == w.Claimed && (s.Step == machine.Decided || s.Step == machine.Finished) != (w.Register == machine.VerdictCommit):
		return fmt.Errorf("at rest in step %s, the register says %s", s.Step, w.Register)
	case s.Request.ID != 0:
		return fmt.Errorf("at rest with a request not answered")
	}
	return nil
}

// Forbidden says which promise an effect breaks in the world in which it is asked for.
func (w World) Forbidden(s machine.State, e machine.Effect) error {
	need := func(steps ...machine.StepName) error {
		for _, n := range steps {
			if w.Step == n && w.Epoch == s.Epoch {
				return nil
			}
		}
		return fmt.Errorf("%v while the journal says %s of epoch %d", e, w.Step, w.Epoch)
	}
	c, ok := e.(machine.Call)
	if !ok {
		return nil
	}
	if s.Step == machine.Decided && (c.Op == machine.OpUnfence || c.Op == machine.OpResume || c.Op == machine.OpFence || c.Op == machine.OpPause || c.Op == machine.OpReject) {
		return fmt.Errorf("%v after the decision", c.Op)
	}
	switch c.Op {
	case machine.OpStage, machine.OpPrelockSource, machine.OpPrelockTarget:
		if s.Phase != machine.PhaseProve {
			return need(machine.Arming)
		}
	case machine.OpPause, machine.OpExpel, machine.OpFence:
		return need(machine.Pausing)
	case machine.OpWaitMarker:
		return need(machine.Draining)
	case machine.OpDecide:
		return need(machine.Deciding)
	case machine.OpUnfence:
		if w.Verdict(s.Epoch) != machine.VerdictAbort && w.Step == machine.Deciding {
			return fmt.Errorf("unfence while the register says %q", w.Verdict(s.Epoch))
		}
		return need(machine.Fenced, machine.Draining, machine.Deciding)
	case machine.OpResume:
		if !w.Step.Resting() && w.Step != machine.Arming {
			return fmt.Errorf("resume while the journal says %s", w.Step)
		}
	case machine.OpSwitch:
		if s.Step == machine.Decided && w.Verdict(s.Epoch) != machine.VerdictCommit {
			return fmt.Errorf("switch while the register says %q", w.Verdict(s.Epoch))
		}
		if !*w.Open(c.To) {
			return fmt.Errorf("switch to the %s, which is fenced", c.To)
		}
	}
	return nil
}
