package machine

import "time"

// Step is the machine: what has happened goes in, what is to be done comes out. It is a pure function: no clock, no
// goroutine, no input or output, and the same arguments always give the same results. Events that do not belong to the
// state, late ones above all, change nothing.
func Step(state State, event Event) (State, []Effect) {
	return Protocol.Step(state, event)
}

func (sc Script) Step(s State, e Event) (State, []Effect) {
	t := &transition{State: s, script: sc}
	t.apply(e)
	return t.State, t.out
}

// transition is one call of Step.
type transition struct {
	State
	script Script
	out    []Effect
}

func (t *transition) emit(e Effect) { t.out = append(t.out, e) }

func (t *transition) note(step, detail string) { t.emit(Note{Step: step, Detail: detail}) }

func (t *transition) apply(event Event) {
	switch e := event.(type) {
	case Started:
		if t.Phase == PhaseStart {
			t.ask(PhaseTake, Ops(OpTake))
		}
	case Requested:
		t.requested(e)
	case Advanced:
		t.advanced(e)
	case Stopped:
		t.stopped()
	case Withdrawn:
		t.withdrawn(e)
	case TimerFired:
		t.timer(e)
	case LockLost:
		t.lockLost(e)
	case LockWanted:
		t.lockWanted()
	case Tripped:
		t.tripped(e)
	case Result:
		t.result(e)
	}
}

// result takes the outcome of a call, if it is one of this phase.
func (t *transition) result(e Result) {
	op, gen := e.Call()
	if gen != t.Gen || !t.Pending.Has(op) {
		return // late: the phase that asked is over, and whatever it acquired is in Held
	}
	t.Pending = t.Pending.without(op)
	switch e := e.(type) {
	case Done:
		t.Held &^= op.releases()
		t.note(t.name(op), e.Detail)
	case CensusTaken:
		t.Survey.Bypass = e.Bypass
		t.note(op.String(), e.Detail)
	case LagRead:
		t.Survey.LagBytes, t.Survey.LagDelay = e.Bytes, e.Delay
		t.note(op.String(), e.Detail)
	case Fingerprinted:
		t.fingerprinted(e)
	case Loaded:
		t.loaded(e.Record)
		return
	case RegisterRead:
		t.registerRead(e)
		return
	case Failed:
		t.failed(e)
		return
	}
	t.settle()
}

// name is what the timeline calls the end of a call: the step that begins with it, where there is one.
func (t *transition) name(o Op) string {
	switch o {
	case OpClaim:
		return string(Arming)
	case OpFence:
		return string(Fenced)
	case OpRecord:
		return string(t.Recording)
	default:
		return o.String()
	}
}

func (t *transition) fingerprinted(e Fingerprinted) {
	if e.Side == SideTarget {
		t.Survey.TargetSum = e.Sum
	} else {
		t.Survey.SourceSum = e.Sum
	}
	if e.Detail != "" {
		t.Reason = e.Detail
	}
}

// settle goes on when nothing of the phase is outstanding any more.
func (t *transition) settle() {
	switch {
	case t.Pending != 0:
	case t.Todo != 0:
		t.backOff()
	default:
		t.complete()
	}
}

// ask enters a phase (again) and issues its calls. Whatever an earlier generation still has outstanding is cancelled.
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

// turn begins a new generation.
func (t *transition) turn(p Phase) {
	t.Gen++
	if t.Pending != 0 {
		t.emit(StopCalls{Before: t.Gen})
	}
	t.Phase, t.Pending, t.Todo, t.Backoff = p, 0, 0, false
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

func (t *transition) timer(e TimerFired) {
	switch {
	case e.Timer == TimerPause && e.Gen == t.GenOf.Pause && t.Phase.Paused():
		t.unwind(EndAbort, "the gate was closed for "+t.Limits.MaxPause.String()+" (--max-pause) without a decision; while waiting for "+waiting[t.Phase])
	case e.Timer != TimerPhase || e.Gen != t.Gen:
		// late
	case t.Phase == PhaseBackoff:
		t.attempt()
	case t.Backoff:
		t.ask(t.Phase, t.Todo)
	default:
		gen, pending := t.Gen, t.Pending
		pending.Each(func(o Op) {
			if t.Gen == gen {
				t.result(Failed{Op: o, Gen: gen, Class: ClassTimeout, Reason: "no answer in time"})
			}
		})
	}
}
