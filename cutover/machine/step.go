package machine

import "time"

// Step is the machine: what has happened goes in, what is to be done comes out. It is a pure
// function: no clock, no goroutine, no input or output, and the same arguments always give the same
// results. Events that do not belong to the state, late ones above all, change nothing.
func Step(state State, event Event) (State, []Effect) {
	return Protocol.Step(state, event)
}

// Step is the machine with another order of an attempt. It hands the event to the part that knows
// what it means; all parts write to one transition, and call only those listed before them here.
func (sc Script) Step(s State, event Event) (State, []Effect) {
	t := &transition{State: s, script: sc}
	undo := undoing{t}
	attempt := attempt{t, undo}
	decision := decision{t, undo}
	results := results{t, undo, attempt, decision}
	operator := operator{t, undo, attempt}
	switch e := event.(type) {
	case Started:
		undo.started()
	case Requested:
		operator.requested(e)
	case Advanced:
		operator.advanced(e)
	case Stopped:
		operator.stopped()
	case Withdrawn:
		operator.withdrawn(e)
	case TimerFired:
		results.timer(e)
	case LockLost:
		locks{t}.lost(e)
	case LockWanted:
		locks{t}.wanted()
	case Tripped:
		decision.tripped(e)
	case Result:
		results.result(e)
	}
	return t.State, t.out
}

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

// results collects the outcomes of the calls of a phase, or that some did not arrive in time, and
// calls the part that continues from there.
type results struct {
	*transition
	undo     undoing
	attempt  attempt
	decision decision
}

// result takes the outcome of a call, if it is one of this phase.
func (r results) result(e Result) {
	op, gen := e.Call()
	if gen != r.Gen || !r.Pending.Has(op) {
		return // late: the phase that asked is over, and whatever it acquired is in Held
	}
	r.Pending = r.Pending.without(op)
	switch e := e.(type) {
	case Done:
		r.Held &^= op.releases()
		r.note(r.name(op), e.Detail)
	case CensusTaken:
		r.Survey.Bypass = e.Bypass
		r.note(op.String(), e.Detail)
	case LagRead:
		r.Survey.LagBytes, r.Survey.LagDelay = e.Bytes, e.Delay
		r.note(op.String(), e.Detail)
	case Fingerprinted:
		r.fingerprinted(e)
	case Loaded:
		r.undo.loaded(e.Record)
		return
	case RegisterRead:
		r.decision.registerRead(e)
		return
	case Failed:
		r.failed(e)
		return
	}
	r.settle()
}

// name is what the timeline calls the end of a call: the step that begins with it, where there is
// one.
func (r results) name(o Op) string {
	switch o {
	case OpClaim:
		return string(Arming)
	case OpFence:
		return string(Fenced)
	case OpRecord:
		return string(r.Recording)
	default:
		return o.String()
	}
}

// fingerprinted keeps the sum of one side, and where the two differ.
func (r results) fingerprinted(e Fingerprinted) {
	if e.Side == SideTarget {
		r.Survey.TargetSum = e.Sum
	} else {
		r.Survey.SourceSum = e.Sum
	}
	if e.Detail != "" {
		r.Reason = e.Detail
	}
}

// settle continues when nothing of the phase is outstanding any more.
func (r results) settle() {
	switch {
	case r.Pending != 0:
	case r.Todo != 0:
		r.backOff()
	default:
		r.complete()
	}
}

// complete continues from a phase whose calls have all succeeded.
func (r results) complete() {
	r.Tries = 0
	switch r.Phase {
	case PhaseAdvance:
		r.Step = r.Recording
		r.answer(OutcomeRecorded, "")
		r.rest()
	case PhaseClaim:
		r.Step = Arming
		r.attempt.next()
	case PhaseSurvey:
		r.attempt.surveyed()
	case PhaseRecordPausing, PhaseRecordDraining, PhaseRecordDeciding:
		r.Step = r.Recording
		r.attempt.next()
	case PhaseFence:
		r.Step = Fenced
		r.attempt.next()
	case PhaseProve:
		r.attempt.proved()
	case PhaseDecide:
		r.decision.decided()
	case PhaseRecordDecided:
		r.Recorded = true
		r.attempt.next()
	case PhaseSwitch:
		r.decision.switched()
	case PhaseComplete:
		r.rest()
	case PhaseUndo:
		r.undo.undone()
	case PhaseReopen:
		r.undo.reopened()
	case PhaseDiscard:
		r.undo.ended()
	default:
		r.attempt.next()
	}
}

// failed takes a call that ended badly.
func (r results) failed(e Failed) {
	why := e.Op.String() + ": " + e.Reason
	r.note(e.Op.String(), e.Class.String()+": "+e.Reason)
	switch r.Phase {
	case PhaseDecide, PhaseRegister, PhaseReject:
		r.decision.undecided(why)
	case PhaseRecordDecided:
		r.attempt.next() // the register is the record that counts; this one is repeated in the background
	case PhaseSwitch, PhaseComplete, PhaseReopen:
		r.repeat(e)
	case PhaseDiscard:
		r.Held &^= e.Op.releases()
		r.settle()
	case PhaseTake, PhaseUndo:
		r.undo.unread()
	case PhaseProve:
		if e.Op == OpPrelockTarget {
			r.settle() // the decision takes its locks itself, bounded
			return
		}
		r.attempt.unlocked(e, why)
	case PhaseSurvey:
		if r.Request.Mode == ModeDryRun {
			r.settle() // a finding
			return
		}
		r.attempt.unlocked(e, why)
	case PhasePrepare:
		if e.Op == OpPrepareSnapshots { // they are made in the pause
			r.settle()
			return
		}
		r.attempt.unlocked(e, why)
	case PhasePrelock, PhaseFence, PhasePause, PhaseStage, PhaseRehearse:
		r.attempt.unlocked(e, why)
	case PhaseMarker:
		if e.Class == ClassTimeout { // the stream was slower than it seemed
			r.undo.retry(why)
			return
		}
		r.undo.unwind(EndAbort, why)
	default: // advance, claim and the rest of the attempt
		r.undo.unwind(EndAbort, why)
	}
}

// repeat makes a call that must succeed once more, and forgets one that need not.
func (r results) repeat(e Failed) {
	switch {
	case e.Op == OpRecord && e.Class == ClassConflict:
		// another process has the row by now, or it was never ours: its owner reads the same
		// register
	case e.Op.essential():
		r.Todo = r.Todo.with(e.Op)
	default:
		r.Held &^= e.Op.releases()
	}
	r.settle()
}

// timer ends a back-off, the pause, or the calls that have not answered in time.
func (r results) timer(e TimerFired) {
	switch {
	case e.Timer == TimerPause && e.Gen == r.GenOf.Pause && r.Phase.Paused():
		r.undo.unwind(EndAbort, "the gate was closed for "+r.Limits.MaxPause.String()+" (--max-pause) without a decision; while waiting for "+waiting[r.Phase])
	case e.Timer != TimerPhase || e.Gen != r.Gen:
		// late
	case r.Phase == PhaseBackoff:
		r.attempt.begin()
	case r.Backoff:
		r.ask(r.Phase, r.Todo)
	default:
		gen, pending := r.Gen, r.Pending
		pending.Each(func(o Op) {
			if r.Gen == gen {
				r.result(Failed{Op: o, Gen: gen, Class: ClassTimeout, Reason: "no answer in time"})
			}
		})
	}
}
