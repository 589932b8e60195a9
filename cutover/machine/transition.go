package machine

import "time"

// transition is one call of Step while it runs: the new state and the effects so far. Its methods
// are the building blocks of undoing, attempt, decision and the others; they keep generations,
// timers and answers in order, and know nothing about events.
type transition struct {
	State
	script Script
	out    []Effect
}

func (t *transition) emit(e Effect) { t.out = append(t.out, e) }

func (t *transition) note(step, detail string) { t.emit(Note{Step: step, Detail: detail}) }

// turn begins a new generation.
func (t *transition) turn(p Phase) {
	t.Gen++
	if t.Pending != 0 {
		t.emit(StopCalls{Before: t.Gen})
	}
	t.Phase, t.Pending, t.Todo, t.Backoff = p, 0, 0, false
}

// ask enters a phase (again) and issues its calls. Whatever an earlier generation still has
// outstanding is cancelled.
func (t *transition) ask(p Phase, calls OpSet) {
	t.turn(p)
	t.Pending = calls
	var longest time.Duration
	calls.Each(func(o Op) {
		b := PhaseBound(p, o, t.Limits)
		longest = max(longest, b)
		t.Held |= o.acquires()
		switch o {
		case OpPrelockSource:
			t.GenOf.SourceLock = t.Gen
		case OpPrelockTarget:
			t.GenOf.TargetLock = t.Gen
		}
		if o == OpRecord {
			t.emit(PersistStep{Gen: t.Gen, Epoch: t.Epoch, Direction: t.Direction, From: t.RecordedBefore(), To: t.Recording, Bound: b})
			return
		}
		call := Call{Op: o, Gen: t.Gen, Epoch: t.Epoch, Direction: t.Direction, Bound: b}
		switch o {
		case OpSwitch:
			call.To = t.Active()
		case OpPause:
			call.Drain = t.Limits.DrainTimeout
		case OpStage:
			if call.Unmovable = t.Request.Unmovable.in(t.Request.Mode); call.Unmovable == UnmovableWait {
				call.Drain = t.Limits.DrainTimeout
			}
		case OpDecision:
			if p == PhaseNewest {
				call.Epoch = 0
			}
		}
		t.emit(call)
	})
	t.emit(StartTimer{Timer: TimerPhase, Gen: t.Gen, After: longest + timerSlack})
}

// record enters a phase that records a step.
func (t *transition) record(p Phase, to StepName) {
	t.Recording = to
	t.ask(p, Ops(OpRecord))
}

// backOff waits before the calls in Todo are repeated.
func (t *transition) backOff() {
	todo, after := t.Todo, doubled(retryFirst, retryMost, t.Tries)
	t.turn(t.Phase)
	t.Todo, t.Backoff = todo, true
	t.Tries = min(t.Tries+1, maxTries)
	t.emit(StartTimer{Timer: TimerPhase, Gen: t.Gen, After: after})
}

// again lets calls be repeated after a back-off, whatever else is outstanding.
func (t *transition) again(calls OpSet) {
	t.Todo = calls
	t.backOff()
}

// answer tells the one who asked, once.
func (t *transition) answer(o Outcome, reason string) {
	if t.Request.ID != 0 {
		t.emit(Answer{ID: t.Request.ID, Outcome: o, Reason: reason})
	}
	t.Request.ID = 0
}

// rest ends everything.
func (t *transition) rest() {
	t.turn(PhaseRest)
	t.Attempt, t.Ending, t.Request.Mode = 0, EndNone, ModeCutover
	t.Settled = true
}

// differ adds where two catalogs differ to what that means, where it is known.
func (t *transition) differ(what string) string {
	if t.Reason != "" {
		return what + ": " + t.Reason
	}
	return what
}
