package machine_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
	"crossfade/cutover/machine/machinetest"
)

// swap returns the protocol with two stages in each other's place.
func swap(a, b machine.Phase) machine.Script {
	sc := slices.Clone(machine.Protocol)
	i := slices.IndexFunc(sc, func(st machine.Stage) bool { return st.Phase == a })
	j := slices.IndexFunc(sc, func(st machine.Stage) bool { return st.Phase == b })
	sc[i], sc[j] = sc[j], sc[i]
	return sc
}

// without returns the protocol with a stage left out.
func without(p machine.Phase) machine.Script {
	return slices.DeleteFunc(slices.Clone(machine.Protocol), func(st machine.Stage) bool { return st.Phase == p })
}

// onEvent is Step with its events changed beforehand.
func onEvent(change func(machine.State, machine.Event) machine.Event) stepper {
	return func(s machine.State, e machine.Event) (machine.State, []machine.Effect) {
		return machine.Step(s, change(s, e))
	}
}

// onEffect is Step with its effects changed afterwards.
func onEffect(change func(machine.State, machine.Effect) machine.Effect) stepper {
	return func(s machine.State, e machine.Event) (machine.State, []machine.Effect) {
		next, effects := machine.Step(s, e)
		var out []machine.Effect
		for _, eff := range effects {
			if eff = change(next, eff); eff != nil {
				out = append(out, eff)
			}
		}
		return next, out
	}
}

// TestTheWalkCatchesMutants proves that the checker can fail: each mutant has one fault that a
// maintainer might make.
func TestTheWalkCatchesMutants(t *testing.T) {
	t.Parallel()
	for _, m := range []struct {
		name string
		step stepper
		says string
	}{
		{"fence and decision exchanged", swap(machine.PhaseFence, machine.PhaseDecide).Step, "while the journal says"},
		{"fence before the gate is closed", swap(machine.PhasePause, machine.PhaseFence).Step, "while the journal says fenced"},
		{"switch before the decision", swap(machine.PhaseDecide, machine.PhaseSwitch).Step, "fenced"},
		{"deciding is not recorded", without(machine.PhaseRecordDeciding).Step, "while the journal says draining"},
		{"pausing is not recorded", without(machine.PhaseRecordPausing).Step, "while the journal says arming"},
		{"no fence", without(machine.PhaseFence).Step, "both sides take writes"},
		{"a register without a row is taken for an abort", onEvent(func(_ machine.State, e machine.Event) machine.Event {
			if r, ok := e.(machine.RegisterRead); ok && r.Verdict == machine.VerdictAbsent {
				r.Verdict = machine.VerdictAbort
				return r
			}
			return e
		}), "unfence while the register says \"absent\""},
		{"a failed decision is taken for an abort", onEvent(func(s machine.State, e machine.Event) machine.Event {
			if f, ok := e.(machine.Failed); ok && f.Op == machine.OpDecide && f.Gen == s.Gen {
				return machine.RegisterRead{Op: machine.OpDecide, Gen: s.Gen, Epoch: s.Epoch, Verdict: machine.VerdictAbort}
			}
			return e
		}), "unfence while the register says"},
		{"an abort reads nothing and believes its own step", onEvent(func(s machine.State, e machine.Event) machine.Event {
			if l, ok := e.(machine.Loaded); ok && s.Ending == machine.EndAbort {
				l.Record = machine.Record{Epoch: s.Epoch, Direction: s.Direction, Step: s.Step}
				return l
			}
			return e
		}), "the journal says"},
		{"generations are not looked at", onEvent(func(s machine.State, e machine.Event) machine.Event {
			switch e := e.(type) {
			case machine.TimerFired:
				e.Gen = s.Gen
				return e
			case machine.Done:
				e.Gen = s.Gen
				return e
			}
			return e
		}), "something came of a late event"},
		{"timers are not started", onEffect(func(_ machine.State, e machine.Effect) machine.Effect {
			if s, ok := e.(machine.StartTimer); ok && s.Timer == machine.TimerPhase {
				return nil
			}
			return e
		}), "nothing bounds phase"},
		{"the pause has no bound", onEffect(func(_ machine.State, e machine.Effect) machine.Effect {
			if s, ok := e.(machine.StartTimer); ok && s.Timer == machine.TimerPause {
				return nil
			}
			return e
		}), "nothing bounds the pause"},
		{"the gate opens before the abort is recorded", onEffect(func(s machine.State, e machine.Effect) machine.Effect {
			if c, ok := e.(machine.Call); ok && c.Op == machine.OpTake && s.Ending == machine.EndAbort {
				c.Op = machine.OpResume
				return c
			}
			return e
		}), "resume while the journal says"},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			_, err := walk(m.step, machinetest.Following(), small, false, machine.ModeCutover, machine.Forward)
			require.ErrorContains(t, err, m.says)
			t.Log(err)
		})
	}
}
