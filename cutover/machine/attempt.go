package machine

import (
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
	st, _ := a.script.find(PhaseSurvey)
	a.Survey.SourceSum, a.Survey.TargetSum = "", ""
	calls := st.Calls
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
		a.undo.unwind(EndAbort, strconv.Itoa(a.Survey.Bypass)+" sessions write past the proxy and a rehearsal would make them fail: "+
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
