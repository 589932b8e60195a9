package machine

import "strconv"

// codeNotReady is the code of an obstacle that is the step itself.
const codeNotReady = "not_ready"

func notReady(detail, remedy string) *Obstacle {
	return &Obstacle{Code: codeNotReady, Detail: detail, Remedy: remedy}
}

// RefuseCutover says why a cutover in a direction would not be tried now; nil if it would.
func (s State) RefuseCutover(d Direction) *Obstacle {
	switch {
	case s.Stopping:
		return notReady("crossfade run is being stopped", "start it again, then ask again")
	case !s.Settled:
		return notReady("crossfade run has just been started and waits for "+s.Waiting(), "wait: crossfade status shows the phase")
	case s.Phase.unwinding():
		return notReady("an earlier attempt is being undone: waiting for "+s.Waiting(), "wait until crossfade status says "+string(Following))
	case s.Step == Finished:
		return notReady("the migration is finished", "nothing is left to do: point the applications at the target")
	case (s.Phase == PhaseRest || s.Phase == PhaseComplete) && d.Closing() != s.Active():
		return notReady("the "+string(s.Active())+" is active already (epoch "+strconv.FormatInt(s.Epoch, 10)+")",
			"nothing is left to switch: crossfade status shows the comparison of both sides, crossfade finish ends the migration")
	case s.Phase == PhaseComplete:
		return notReady("a switch has just been made: waiting for "+s.Waiting(), "wait: crossfade status shows the phase")
	case s.Phase == PhaseAdvance:
		return notReady("step "+string(s.Recording)+" is being recorded on the source", "ask again in a moment")
	case s.Phase != PhaseRest:
		return notReady("an attempt is under way (step "+string(s.Step)+", epoch "+strconv.FormatInt(s.Epoch, 10)+")",
			"wait for its end, or take it back with crossfade cutover --cancel")
	case s.Step == Copying || s.Step == CatchingUp:
		return notReady("the copy has not ended yet (step "+string(s.Step)+")", "wait until crossfade status says "+string(Following))
	case d == Reverse && !s.WayBack:
		return notReady("there is no way back: no reverse stream was set up", "keep the target: crossfade finish ends the migration")
	}
	return nil
}

func (t *transition) requested(e Requested) {
	if why := t.RefuseCutover(e.Direction); why != nil {
		t.emit(Refuse{ID: e.ID, Obstacle: *why})
		return
	}
	t.Request = Request{ID: e.ID, Mode: e.Mode, AllowBypass: e.AllowBypass, Unmovable: e.Unmovable}
	t.Limits = e.Limits.Or(t.Limits)
	t.Attempt, t.Ending, t.Reason, t.Verdict, t.Recorded = 1, EndNone, "", VerdictUnknown, false
	if t.Request.Mode == ModeDryRun {
		t.survey()
		return
	}
	t.Direction = e.Direction
	t.Epoch++
	t.Step = Idle // of the new epoch, until the claim says arming; a claim in doubt is settled by taking the journal
	t.ask(PhaseClaim, Ops(OpClaim))
}

func (t *transition) advanced(e Advanced) {
	switch {
	case t.Phase != PhaseRest || t.Stopping:
		t.emit(Refuse{ID: e.ID, Obstacle: *notReady("not now: waiting for "+t.Waiting(), "wait: crossfade status shows the phase")})
	case t.Step == e.To:
		t.emit(Answer{ID: e.ID, Outcome: OutcomeRecorded})
	case !canAdvance(t.Step, e.To):
		t.emit(Refuse{ID: e.ID, Obstacle: *notReady("step "+string(t.Step)+" is not followed by "+string(e.To), "wait: crossfade status shows the phase")})
	default:
		t.Request.ID, t.Ending, t.Reason = e.ID, EndNone, ""
		t.record(PhaseAdvance, e.To)
	}
}

// stopped ends an attempt that may be ended. What is being undone goes on being undone, and what may be decided goes on.
func (t *transition) stopped() {
	t.Stopping = true
	switch {
	case t.Phase.Abortable():
		t.unwind(EndAbort, "crossfade is being stopped")
	case t.Ending == EndRetry:
		t.Ending, t.Reason = EndAbort, "crossfade is being stopped"
	}
}

// withdrawn ends the attempt of a request as long as it may be ended. What is being undone goes on being undone, and is
// not tried again; what may be decided goes on.
func (t *transition) withdrawn(e Withdrawn) {
	switch {
	case e.ID == 0 || e.ID != t.Request.ID: // it has its answer
	case t.Phase.Abortable():
		t.unwind(EndAbort, e.Reason)
	case t.Ending == EndRetry:
		t.Ending, t.Reason = EndAbort, e.Reason
	case t.Ending == EndNone:
		t.note("withdraw", "too late, the decision may have been taken: "+e.Reason)
	}
}

// attempt begins an attempt after its claim.
func (t *transition) attempt() {
	t.Attempt++
	t.Ending, t.Reason = EndNone, ""
	t.survey()
}

func (t *transition) survey() {
	st, _ := t.script.find(PhaseSurvey)
	t.Survey.SourceSum, t.Survey.TargetSum = "", ""
	calls := st.Calls
	if t.Request.Mode == ModeDryRun {
		calls = calls.with(OpLook) // an attempt stages the sessions instead
	}
	t.ask(PhaseSurvey, calls)
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
