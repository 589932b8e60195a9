package machine

import "strconv"

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
	case d.Phase == PhaseNewest:
		d.undo.newest(e)
	case e.Verdict == VerdictCommit:
		d.decided()
	case e.Verdict == VerdictAbort:
		d.Verdict = VerdictAbort
		d.undo.unwind(d.undo.endingOr(EndAbort), d.differ("the decision was not committed"))
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
	st, _ := d.script.find(PhaseComplete)
	calls := st.Calls
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
