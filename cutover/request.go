package cutover

// refuseCutover says why a cutover in a direction would not be tried now; empty if it would.
func (s State) refuseCutover(d Direction) string {
	switch {
	case s.Stopping:
		return "crossfade is being stopped"
	case s.Phase == PhaseStart || s.Phase.unwinding():
		return "an earlier attempt is being undone: waiting for " + s.Waiting()
	case s.Phase == PhaseComplete:
		return "a switch has just been made: waiting for " + s.Waiting()
	case s.Phase != PhaseRest:
		return "an attempt is under way (step " + string(s.Step) + ")"
	case s.Step == Copying || s.Step == CatchingUp:
		return "the copy has not ended yet (step " + string(s.Step) + "): wait until status says following"
	case s.Step == Finished:
		return "the migration is finished"
	case d.Closing() != s.Active():
		return "the " + string(s.Active()) + " is active already"
	case d == Reverse && !s.WayBack:
		return "there is no way back: no reverse stream was set up"
	}
	return ""
}

func (t *transition) requested(e Requested) {
	if why := t.refuseCutover(e.Direction); why != "" {
		t.emit(Refuse{ID: e.ID, Reason: why})
		return
	}
	t.Request, t.Mode, t.AllowBypass, t.Unmovable = e.ID, e.Mode, e.AllowBypass, e.Unmovable
	t.Limits = e.Limits.or(t.Limits)
	t.Attempt, t.Ending, t.Reason, t.Verdict, t.Recorded = 1, EndNone, "", VerdictUnknown, false
	if t.Mode == ModeDryRun {
		t.survey()
		return
	}
	t.Direction = e.Direction
	t.Epoch++
	t.Step = Idle // of the new epoch, until the claim says arming; a claim in doubt is settled by taking the journal
	t.ask(PhaseClaim, ops(OpClaim))
}

func (t *transition) advanced(e Advanced) {
	switch {
	case t.Phase != PhaseRest || t.Stopping:
		t.emit(Refuse{ID: e.ID, Reason: "not now: waiting for " + t.Waiting()})
	case t.Step == e.To:
		t.emit(Answer{ID: e.ID, Outcome: OutcomeRecorded})
	case !canAdvance(t.Step, e.To):
		t.emit(Refuse{ID: e.ID, Reason: "step " + string(t.Step) + " is not followed by " + string(e.To)})
	default:
		t.Request, t.Ending, t.Reason = e.ID, EndNone, ""
		t.record(PhaseAdvance, e.To)
	}
}

// stopped ends an attempt that may be ended. What is being undone goes on being undone, and what may be decided goes on.
func (t *transition) stopped() {
	t.Stopping = true
	switch {
	case t.Phase.abortable():
		t.unwind(EndAbort, "crossfade is being stopped")
	case t.Ending == EndRetry:
		t.Ending, t.Reason = EndAbort, "crossfade is being stopped"
	}
}

// attempt begins an attempt behind its claim.
func (t *transition) attempt() {
	t.Attempt++
	t.Ending, t.Reason = EndNone, ""
	t.survey()
}

func (t *transition) survey() {
	st, _ := t.script.find(PhaseSurvey)
	t.SourceSum, t.TargetSum = "", ""
	t.ask(PhaseSurvey, st.calls)
}

// answer tells the one who asked, once.
func (t *transition) answer(o Outcome, reason string) {
	if t.Request != 0 {
		t.emit(Answer{ID: t.Request, Outcome: o, Reason: reason})
	}
	t.Request = 0
}

// rest ends everything.
func (t *transition) rest() {
	t.turn(PhaseRest)
	t.Attempt, t.Ending, t.Mode = 0, EndNone, ModeCutover
	t.Settled = true
}
