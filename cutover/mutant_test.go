package cutover

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// swap returns the protocol with two stages in each other's place.
func swap(a, b Phase) script {
	sc := slices.Clone(protocol)
	i := slices.IndexFunc(sc, func(st stage) bool { return st.phase == a })
	j := slices.IndexFunc(sc, func(st stage) bool { return st.phase == b })
	sc[i], sc[j] = sc[j], sc[i]
	return sc
}

// without returns the protocol with a stage left out.
func without(p Phase) script {
	return slices.DeleteFunc(slices.Clone(protocol), func(st stage) bool { return st.phase == p })
}

// onEvent is Step with its events changed beforehand.
func onEvent(change func(State, Event) Event) stepper {
	return func(s State, e Event) (State, []Effect) { return Step(s, change(s, e)) }
}

// onEffect is Step with its effects changed afterwards.
func onEffect(change func(State, Effect) Effect) stepper {
	return func(s State, e Event) (State, []Effect) {
		next, effects := Step(s, e)
		var out []Effect
		for _, eff := range effects {
			if eff = change(next, eff); eff != nil {
				out = append(out, eff)
			}
		}
		return next, out
	}
}

// TestTheWalkCatchesMutants proves that the checker can fail: each mutant has one fault that a maintainer might make.
func TestTheWalkCatchesMutants(t *testing.T) {
	t.Parallel()
	for _, m := range []struct {
		name string
		step stepper
		says string
	}{
		{"fence and decision exchanged", swap(PhaseFence, PhaseDecide).step, "while the journal says"},
		{"fence before the gate is closed", swap(PhasePause, PhaseFence).step, "while the journal says fenced"},
		{"switch before the decision", swap(PhaseDecide, PhaseSwitch).step, "fenced"},
		{"deciding is not recorded", without(PhaseRecordDeciding).step, "while the journal says draining"},
		{"pausing is not recorded", without(PhaseRecordPausing).step, "while the journal says arming"},
		{"no fence", without(PhaseFence).step, "both sides take writes"},
		{"a register without a row is taken for an abort", onEvent(func(_ State, e Event) Event {
			if r, ok := e.(RegisterRead); ok && r.Verdict == VerdictAbsent {
				r.Verdict = VerdictAbort
				return r
			}
			return e
		}), "unfence while the register says \"absent\""},
		{"a failed decision is taken for an abort", onEvent(func(s State, e Event) Event {
			if f, ok := e.(Failed); ok && f.Op == OpDecide && f.Gen == s.Gen {
				return RegisterRead{Op: OpDecide, Gen: s.Gen, Epoch: s.Epoch, Verdict: VerdictAbort}
			}
			return e
		}), "unfence while the register says"},
		{"an abort reads nothing and believes its own step", onEvent(func(s State, e Event) Event {
			if l, ok := e.(Loaded); ok && s.Ending == EndAbort {
				l.Record = Record{Epoch: s.Epoch, Direction: s.Direction, Step: s.Step}
				return l
			}
			return e
		}), "the journal says"},
		{"generations are not looked at", onEvent(func(s State, e Event) Event {
			switch e := e.(type) {
			case TimerFired:
				e.Gen = s.Gen
				return e
			case Done:
				e.Gen = s.Gen
				return e
			}
			return e
		}), "something came of a late event"},
		{"timers are not started", onEffect(func(_ State, e Effect) Effect {
			if s, ok := e.(StartTimer); ok && s.Timer == TimerPhase {
				return nil
			}
			return e
		}), "nothing bounds phase"},
		{"the pause has no bound", onEffect(func(_ State, e Effect) Effect {
			if s, ok := e.(StartTimer); ok && s.Timer == TimerPause {
				return nil
			}
			return e
		}), "nothing bounds the pause"},
		{"the gate opens before the abort is recorded", onEffect(func(s State, e Effect) Effect {
			if c, ok := e.(Call); ok && c.Op == OpTake && s.Ending == EndAbort {
				c.Op = OpResume
				return c
			}
			return e
		}), "resume while the journal says"},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			_, err := walk(m.step, following(), small, false, ModeCutover, Forward)
			require.ErrorContains(t, err, m.says)
			t.Log(err)
		})
	}
}
