package machine_test

import (
	"fmt"

	"crossfade/cutover/machine"
)

// patience is how many events a way out may take. The longest is a whole attempt followed by its
// undoing.
const patience = 120

// settle lets the world answer every call and every back-off pass, until nothing is going on. Where
// a node leads is remembered: ways out soon run together.
func (k *walker) settle(n node) (node, error) {
	var path []node
	for range patience {
		if end, ok := k.ends[n]; ok {
			n = end
		}
		path = append(path, n)
		switch {
		case n.s.Phase == machine.PhaseRest:
			for _, p := range path {
				k.ends[p] = n
			}
			return n, nil
		case n.s.Pending != 0:
			w, op := n.w, firstOf(n.s.Pending)
			e := w.Do(n.s, op)
			n, _ = k.take(n, w, e, op.String())
		case n.w.PhaseTimer:
			n, _ = k.take(n, n.w, machine.TimerFired{Timer: machine.TimerPhase, Gen: n.s.Gen}, "back-off")
		default:
			return n, fmt.Errorf("stuck in phase %v", n.s.Phase)
		}
		if k.err != nil {
			return n, k.err
		}
	}
	return n, fmt.Errorf("not at rest after %d events, in phase %v", patience, n.s.Phase)
}

func firstOf(s machine.OpSet) machine.Op {
	for o := machine.Op(0); o < machine.OpCount; o++ {
		if s.Has(o) {
			return o
		}
	}
	return machine.OpCount
}

// conclude checks where a way out has led, given what the register says.
func conclude(n node) error {
	decided := n.s.Epoch == n.w.Claimed && n.w.Register == machine.VerdictCommit
	switch {
	case decided && (n.s.Step != machine.Decided || n.w.Gate != n.s.Direction.Opening()):
		return fmt.Errorf("the register says commit, but step %s and gate %q", n.s.Step, n.w.Gate)
	case !decided && n.w.Gate != n.s.Active():
		return fmt.Errorf("no commit, but the gate is open to %q", n.w.Gate)
	case !*n.w.Open(n.s.Active()):
		return fmt.Errorf("the %s is active and takes no writes", n.s.Active())
	}
	return n.w.Broken(n.s)
}

// waysOut asks the three things of TestEveryReachableState at one node.
func (k *walker) waysOut(n node) error {
	if n.s.Phase == machine.PhaseStart {
		return nil
	}
	end, err := k.settle(n)
	if err == nil {
		err = conclude(end)
	}
	if err != nil {
		return fmt.Errorf("with everything working: %w", err)
	}
	for what, e := range map[string]machine.Event{"told to stop": machine.Stopped{}, "withdrawn": machine.Withdrawn{ID: max(n.s.Request.ID, 1)}} {
		if end, err = k.abort(n, e, what); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		ends := n.s.Phase.Abortable() && (n.s.Request.ID != 0 || e == machine.Stopped{})
		if end.s.Epoch == n.s.Epoch && ends && end.s.Step == machine.Decided {
			return fmt.Errorf("%s in phase %v: decided nevertheless", what, n.s.Phase)
		}
	}
	for _, applied := range []bool{false, true} {
		w := n.w
		if applied {
			n.s.Pending.Each(func(o machine.Op) { w.Do(n.s, o) })
		} else {
			w.Lose(n.s, n.s.Pending)
		}
		w.Gate, w.PhaseTimer, w.PauseTimer = "", false, false
		next, _ := k.take(node{machine.Begin(n.s.Limits, n.s.WayBack), w}, w, machine.Started{}, "start")
		if end, err = k.settle(next); err == nil {
			err = conclude(end)
		}
		if err != nil {
			return fmt.Errorf("killed (calls performed: %v): %w", applied, err)
		}
	}
	return nil
}

// abort tells the machine to stop, or that nobody wants the attempt any more, and lets it.
func (k *walker) abort(n node, e machine.Event, what string) (node, error) {
	next, _ := k.take(n, n.w, e, what)
	if k.err != nil {
		return next, k.err
	}
	end, err := k.settle(next)
	if err != nil {
		return end, err
	}
	return end, conclude(end)
}
