package machine

import (
	"cmp"
	"strconv"
	"time"
)

// attempt goes from a claim to the decision, stage by stage, and judges what was found on the way.
type attempt struct {
	*transition
	undo undoing
}

// begin begins another attempt of the same epoch.
func (a attempt) begin() {
	a.Attempt++
	a.Ending, a.Reason = EndNone, ""
	a.survey()
}

// survey inspects both sides before anything is changed.
func (a attempt) survey() {
	a.Survey.SourceSum, a.Survey.TargetSum = "", ""
	calls := a.script.find(PhaseSurvey).Calls
	if a.Request.Mode == ModeDryRun {
		calls = calls.with(OpInspectSessions) // an attempt stages the sessions instead
	}
	a.ask(PhaseSurvey, calls)
}

// next enters the stage after this one.
func (a attempt) next() {
	st, ok := a.script.after(a.Phase)
	if !ok {
		a.rest()
		return
	}
	switch {
	case st.Records != "":
		a.record(st.Phase, st.Records)
	case st.Phase == PhaseSurvey:
		a.survey()
	case st.Phase == PhasePrepare && a.WayBack:
		a.ask(st.Phase, st.Calls.with(OpPrepareReverse))
	case st.Phase == PhasePause:
		a.ask(st.Phase, st.Calls)
		a.GenOf.Pause = a.Gen
		a.emit(StartTimer{Timer: TimerPause, Gen: a.GenOf.Pause, After: a.Limits.MaxPause})
	case st.Phase == PhaseProve:
		calls := st.Calls
		if a.Held&HeldTargetLock == 0 {
			calls = calls.with(OpPrelockTarget) // it was given to TRUNCATE, or lost: the stream no longer needs it
		}
		a.Survey.SourceSum, a.Survey.TargetSum = "", ""
		a.ask(st.Phase, calls)
	default:
		a.ask(st.Phase, st.Calls)
	}
}

// surveyed judges what the survey found, before anything is changed.
func (a attempt) surveyed() {
	switch {
	case a.Request.Mode == ModeDryRun:
		a.answer(OutcomePlanned, "") // the asker reports what was found
		a.rest()
	case a.Survey.SourceSum != a.Survey.TargetSum:
		a.undo.unwind(EndAbort, a.differ("the catalogs of source and target differ"))
	case a.Request.Mode == ModeRehearse && a.Survey.Bypass > 0 && !a.Request.AllowBypass:
		a.undo.unwind(EndAbort, strconv.Itoa(a.Survey.Bypass)+" sessions bypass the proxy, and a rehearsal would make their writes fail: "+
			"let them connect to the proxy, or use --allow-bypass")
	case a.Lags() != "":
		a.undo.retry(a.Lags())
	default:
		a.next()
	}
}

// proved judges what was found after the fence.
func (a attempt) proved() {
	switch {
	case a.Survey.SourceSum != a.Survey.TargetSum:
		a.undo.unwind(EndAbort, a.differ("a catalog has changed since it was surveyed"))
	case a.Request.Mode == ModeRehearse:
		a.undo.unwind(EndRehearsed, "")
	default:
		a.next()
	}
}

// unlocked ends the attempt. It is repeated if a lock, a transaction or a session's state of an
// application was in the way.
func (a attempt) unlocked(e Failed, why string) {
	if e.Class == ClassLockTimeout || e.Class == ClassDrainTimeout || e.Class == ClassHeld {
		a.undo.retry(why)
		return
	}
	a.undo.unwind(EndAbort, why)
}

// Lags says that the stream lags too far for the gate to be closed, "" if it does not: catching up
// is a part of the pause.
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

// decision follows the register, from asking for a commit to the changed route, and watches the
// closed side meanwhile.
type decision struct {
	*transition
	undo undoing
}

// decided is reached when the register is known to hold a commit for this epoch. From here on there
// is no way back.
func (d decision) decided() {
	d.Step, d.Verdict, d.Ending, d.Reason, d.Tries = Decided, VerdictCommit, EndNone, "", 0
	d.note(string(Decided), "epoch "+strconv.FormatInt(d.Epoch, 10)+" opens the "+string(d.Active()))
	d.record(PhaseRecordDecided, Decided)
}

// undecided asks the register: the decision may or may not have been committed.
func (d decision) undecided(why string) {
	if d.Phase == PhaseDecide {
		d.Reason = why
		d.ask(PhaseRegister, Ops(OpDecision))
		return
	}
	d.Phase = PhaseRegister
	d.again(Ops(OpDecision))
}

// registerRead follows the register.
func (d decision) registerRead(e RegisterRead) {
	d.note(e.Op.String(), string(e.Verdict))
	switch {
	case e.Verdict == VerdictCommit:
		d.decided()
	case e.Verdict == VerdictAbort:
		d.Verdict = VerdictAbort
		d.undo.unwind(cmp.Or(d.Ending, EndAbort), d.differ("the decision was not committed"))
	case e.Op == OpDecision:
		d.ask(PhaseReject, Ops(OpReject)) // absent: the primary key lets one of the two be first
	default:
		d.undecided("")
	}
}

// switched answers the operator and continues in the background.
func (d decision) switched() {
	d.answer(OutcomeSwitched, "")
	d.Ending, d.Reason, d.Settled = EndNone, "", true
	calls := d.script.find(PhaseComplete).Calls
	d.Held = 0 // the locks ended with fence and decision, the snapshots belong to the comparison
	if !d.Recorded {
		d.Recording = Decided
		calls = calls.with(OpRecord)
	}
	d.ask(PhaseComplete, calls)
}

// tripped: something wrote the closing side after the marker.
func (d decision) tripped(e Tripped) {
	switch {
	case d.Phase >= PhaseFence && d.Phase <= PhaseRecordDeciding:
		d.emit(Alarm(e))
		d.undo.unwind(EndAbort, "the "+string(d.Direction.Closing())+" was written after the marker: "+e.Detail)
	case d.Step == Decided || d.Step == Deciding:
		d.emit(Alarm(e))
	}
}

// locks takes note of pre-locks that end before they are released.
type locks struct{ *transition }

// lost: a pre-lock is gone. The attempt continues; fence and decision take their locks themselves,
// bounded.
func (l locks) lost(e LockLost) {
	switch {
	case e.Gen == 0:
	case e.Side == SideSource && e.Gen == l.GenOf.SourceLock && l.Held&HeldSourceLock != 0:
		l.Held &^= HeldSourceLock
		l.note("prelock_source", "let go: "+e.Reason)
	case e.Side == SideTarget && e.Gen == l.GenOf.TargetLock && l.Held&HeldTargetLock != 0:
		l.Held &^= HeldTargetLock
		l.note("prelock_target", "let go: "+e.Reason)
	}
}

// wanted: the applier meets TRUNCATE or DDL and gets the pre-lock. It is taken again after the
// marker. Once the marker has been applied the applier cannot need it: the lock is then part of the
// decision.
func (l locks) wanted() {
	if l.Held&HeldTargetLock == 0 || l.Phase < PhasePrelock || l.Phase > PhaseMarker {
		return
	}
	l.Held &^= HeldTargetLock
	l.note("prelock_target", "given to the stream, which meets TRUNCATE or DDL")
	l.emit(Call{Op: OpYieldTarget, Gen: l.Gen, Epoch: l.Epoch, Direction: l.Direction, Bound: bound(OpYieldTarget, l.Limits)})
}
