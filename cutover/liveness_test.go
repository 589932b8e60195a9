package cutover

import "fmt"

// patience is how many events a way out may take. The longest is a whole attempt followed by its undoing.
const patience = 120

// settle lets the world answer every call and every back-off pass, until nothing is going on. Where a node leads is
// remembered: ways out soon run together.
func (k *walker) settle(n node) (node, error) {
	var path []node
	for range patience {
		if end, ok := k.ends[n]; ok {
			n = end
		}
		path = append(path, n)
		switch {
		case n.s.Phase == PhaseRest:
			for _, p := range path {
				k.ends[p] = n
			}
			return n, nil
		case n.s.Pending != 0:
			w, op := n.w, firstOf(n.s.Pending)
			e := w.do(n.s, op)
			n, _ = k.take(n, w, e, op.String())
		case n.w.phaseTimer:
			n, _ = k.take(n, n.w, TimerFired{Timer: TimerPhase, Gen: n.s.Gen}, "back-off")
		default:
			return n, fmt.Errorf("stuck in phase %v", n.s.Phase)
		}
		if k.err != nil {
			return n, k.err
		}
	}
	return n, fmt.Errorf("not at rest after %d events, in phase %v", patience, n.s.Phase)
}

func firstOf(s OpSet) Op {
	for o := Op(0); o < opCount; o++ {
		if s.has(o) {
			return o
		}
	}
	return opCount
}

// conclude checks where a way out has led, given what the register says.
func conclude(n node) error {
	decided := n.s.Epoch == n.w.claimed && n.w.register == VerdictCommit
	switch {
	case decided && (n.s.Step != Decided || n.w.gate != n.s.Direction.Opening()):
		return fmt.Errorf("the register says commit, but step %s and gate %q", n.s.Step, n.w.gate)
	case !decided && n.w.gate != n.s.Active():
		return fmt.Errorf("no commit, but the gate is open to %q", n.w.gate)
	case !*n.w.open(n.s.Active()):
		return fmt.Errorf("the %s is active and takes no writes", n.s.Active())
	}
	return n.w.broken(n.s)
}

// waysOut asks the three things of TestEveryReachableState at one node.
func (k *walker) waysOut(n node) error {
	if n.s.Phase == PhaseStart {
		return nil
	}
	end, err := k.settle(n)
	if err == nil {
		err = conclude(end)
	}
	if err != nil {
		return fmt.Errorf("with everything working: %w", err)
	}
	for what, e := range map[string]Event{"told to stop": Stopped{}, "withdrawn": Withdrawn{ID: max(n.s.Request, 1)}} {
		if end, err = k.abort(n, e, what); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		ends := n.s.Phase.abortable() && (n.s.Request != 0 || e == Stopped{})
		if end.s.Epoch == n.s.Epoch && ends && end.s.Step == Decided {
			return fmt.Errorf("%s in phase %v: decided nevertheless", what, n.s.Phase)
		}
	}
	for _, applied := range []bool{false, true} {
		w := n.w
		if applied {
			n.s.Pending.each(func(o Op) { w.do(n.s, o) })
		} else {
			w.lose(n.s, n.s.Pending)
		}
		w.gate, w.phaseTimer, w.pauseTimer = "", false, false
		next, _ := k.take(node{Begin(n.s.Limits, n.s.WayBack), w}, w, Started{}, "start")
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
func (k *walker) abort(n node, e Event, what string) (node, error) {
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
