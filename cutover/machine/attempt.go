package machine

import (
	"strconv"
	"time"
)

// complete goes on from a phase of which every call has ended well.
func (t *transition) complete() {
	t.Tries = 0
	switch t.Phase {
	case PhaseAdvance:
		t.Step = t.Recording
		t.answer(OutcomeRecorded, "")
		t.rest()
	case PhaseClaim:
		t.Step = Arming
		t.next()
	case PhaseSurvey:
		t.surveyed()
	case PhaseRecordPausing, PhaseRecordDraining, PhaseRecordDeciding:
		t.Step = t.Recording
		t.next()
	case PhaseFence:
		t.Step = Fenced
		t.next()
	case PhaseProve:
		t.proved()
	case PhaseDecide:
		t.decided()
	case PhaseRecordDecided:
		t.Recorded = true
		t.next()
	case PhaseSwitch:
		t.switched()
	case PhaseComplete:
		t.rest()
	case PhaseUndo:
		t.undone()
	case PhaseReopen:
		t.reopened()
	case PhaseDiscard:
		t.ended()
	default:
		t.next()
	}
}

// next enters the stage after this one.
func (t *transition) next() {
	st, ok := t.script.after(t.Phase)
	if !ok {
		t.rest()
		return
	}
	switch {
	case st.Records != "":
		t.record(st.Phase, st.Records)
	case st.Phase == PhaseSurvey:
		t.survey()
	case st.Phase == PhasePause:
		t.ask(st.Phase, st.Calls)
		t.GenOf.Pause = t.Gen
		t.emit(StartTimer{Timer: TimerPause, Gen: t.GenOf.Pause, After: t.Limits.MaxPause})
	case st.Phase == PhaseProve:
		calls := st.Calls
		if t.Held&HeldTargetLock == 0 {
			calls = calls.with(OpPrelockTarget) // it was given to TRUNCATE, or lost: the stream no longer needs it
		}
		t.Survey.SourceSum, t.Survey.TargetSum = "", ""
		t.ask(st.Phase, calls)
	default:
		t.ask(st.Phase, st.Calls)
	}
}

// surveyed judges what was found before anything is touched.
func (t *transition) surveyed() {
	switch {
	case t.Request.Mode == ModeDryRun:
		t.answer(OutcomePlanned, "") // what was found is the asker's to tell
		t.rest()
	case t.Survey.SourceSum != t.Survey.TargetSum:
		t.unwind(EndAbort, t.differ("the catalogs of source and target differ"))
	case t.Request.Mode == ModeRehearse && t.Survey.Bypass > 0 && !t.Request.AllowBypass:
		t.unwind(EndAbort, strconv.Itoa(t.Survey.Bypass)+" sessions write past the proxy and a rehearsal would make them fail: "+
			"let them connect to the proxy, or use --allow-bypass")
	case t.Lags() != "":
		t.retry(t.Lags())
	default:
		t.next()
	}
}

// Lags says that the stream is too far behind for the gate to be closed, "" where it is not: what it has to catch up
// with is a part of the pause.
func (s State) Lags() string {
	const wait = ": wait until crossfade status shows less lag"
	switch {
	case s.Survey.LagBytes > s.Limits.MaxLagBytes:
		return "the stream is " + strconv.FormatInt(s.Survey.LagBytes, 10) + " bytes behind, at most " + strconv.FormatInt(s.Limits.MaxLagBytes, 10) +
			" are caught up with in a pause" + wait
	case s.Survey.LagDelay > LagDelayMost:
		return "the stream is " + s.Survey.LagDelay.Round(time.Millisecond).String() + " behind, at most " + LagDelayMost.String() +
			" are caught up with in a pause" + wait
	}
	return ""
}

// proved judges what was found after the fence.
func (t *transition) proved() {
	switch {
	case t.Survey.SourceSum != t.Survey.TargetSum:
		t.unwind(EndAbort, t.differ("a catalog has changed since it was surveyed"))
	case t.Request.Mode == ModeRehearse:
		t.unwind(EndRehearsed, "")
	default:
		t.next()
	}
}

func (t *transition) differ(what string) string {
	if t.Reason != "" {
		return what + ": " + t.Reason
	}
	return what
}

// failed takes a call that ended badly.
func (t *transition) failed(e Failed) {
	why := e.Op.String() + ": " + e.Reason
	t.note(e.Op.String(), e.Class.String()+": "+e.Reason)
	switch t.Phase {
	case PhaseDecide, PhaseRegister, PhaseReject:
		t.undecided(why)
	case PhaseRecordDecided:
		t.next() // the register is the record that counts; this one is repeated in the background
	case PhaseSwitch, PhaseComplete, PhaseReopen:
		t.repeat(e)
	case PhaseDiscard:
		t.Held &^= e.Op.releases()
		t.settle()
	case PhaseTake, PhaseNewest, PhaseUndo:
		t.unread()
	case PhaseProve:
		if e.Op == OpPrelockTarget {
			t.settle() // the decision takes its locks itself, bounded
			return
		}
		t.unlocked(e, why)
	case PhaseSurvey:
		if t.Request.Mode == ModeDryRun {
			t.settle() // a finding
			return
		}
		t.unlocked(e, why)
	case PhasePrepare:
		if e.Op == OpPrepareSnapshots { // they are made in the pause
			t.settle()
			return
		}
		t.unlocked(e, why)
	case PhasePrelock, PhaseFence, PhasePause, PhaseStage, PhaseRehearse:
		t.unlocked(e, why)
	case PhaseMarker:
		if e.Class == ClassTimeout { // the stream was slower than it looked
			t.retry(why)
			return
		}
		t.unwind(EndAbort, why)
	default: // advance, claim and the rest of the attempt
		t.unwind(EndAbort, why)
	}
}

// unlocked ends the attempt: with another one when it was a lock, a transaction or
// a session's state of an application that stood in the way.
func (t *transition) unlocked(e Failed, why string) {
	if e.Class == ClassLockTimeout || e.Class == ClassDrainTimeout || e.Class == ClassHeld {
		t.retry(why)
		return
	}
	t.unwind(EndAbort, why)
}

// repeat has a call that must succeed made again, and forgets one that need not.
func (t *transition) repeat(e Failed) {
	switch {
	case e.Op == OpRecord && e.Class == ClassConflict:
		// the row is another's by now, or was never ours: whoever has it reads the same register
	case e.Op.essential():
		t.Todo = t.Todo.with(e.Op)
	default:
		t.Held &^= e.Op.releases()
	}
	t.settle()
}
