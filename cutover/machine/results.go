package machine

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
	case PhaseTake, PhaseNewest, PhaseUndo:
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
