package machine

import "strconv"

// decided is reached when the register is known to hold a commit for this epoch. From here on there is no way back.
func (t *transition) decided() {
	t.Step, t.Verdict, t.Ending, t.Reason, t.Tries = Decided, VerdictCommit, EndNone, "", 0
	t.note(string(Decided), "epoch "+strconv.FormatInt(t.Epoch, 10)+" opens the "+string(t.Active()))
	t.record(PhaseRecordDecided, Decided)
}

// undecided asks the register: the decision may or may not have been committed.
func (t *transition) undecided(why string) {
	if t.Phase == PhaseDecide {
		t.Reason = why
		t.ask(PhaseRegister, Ops(OpDecision))
		return
	}
	t.Phase = PhaseRegister
	t.again(Ops(OpDecision))
}

// registerRead follows the register.
func (t *transition) registerRead(e RegisterRead) {
	t.note(e.Op.String(), string(e.Verdict))
	switch {
	case t.Phase == PhaseNewest:
		t.newest(e)
	case e.Verdict == VerdictCommit:
		t.decided()
	case e.Verdict == VerdictAbort:
		t.Verdict = VerdictAbort
		t.unwind(t.endingOr(EndAbort), t.differ("the decision was not committed"))
	case e.Op == OpDecision:
		t.ask(PhaseReject, Ops(OpReject)) // absent: the primary key lets one of the two be first
	default:
		t.undecided("")
	}
}

// newest is what a target says whose source is away at the start.
func (t *transition) newest(e RegisterRead) {
	if e.Verdict != VerdictCommit {
		t.Phase = PhaseTake
		t.again(Ops(OpTake))
		return
	}
	t.Epoch, t.Direction, t.Step, t.Verdict = e.Epoch, Forward, Decided, VerdictCommit
	t.enterSwitch()
}

// enterSwitch changes the route. It is entered with a decision only.
func (t *transition) enterSwitch() {
	t.ask(PhaseSwitch, Ops(OpSwitch))
}

// switched answers the operator and goes on in the background.
func (t *transition) switched() {
	t.answer(OutcomeSwitched, "")
	t.Ending, t.Reason, t.Settled = EndNone, "", true
	st, _ := t.script.find(PhaseComplete)
	calls := st.Calls
	t.Held = 0 // the locks ended with fence and decision, the snapshots belong to the comparison
	if !t.Recorded {
		t.Recording = Decided
		calls = calls.with(OpRecord)
	}
	t.ask(PhaseComplete, calls)
}

// tripped: something wrote the closing side after the marker.
func (t *transition) tripped(e Tripped) {
	switch {
	case t.Phase >= PhaseFence && t.Phase <= PhaseRecordDeciding:
		t.emit(Alarm(e))
		t.unwind(EndAbort, "the "+string(t.Direction.Closing())+" was written after the marker: "+e.Detail)
	case t.Step == Decided || t.Step == Deciding:
		t.emit(Alarm(e))
	}
}
