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
		return notReady("the "+string(s.Active())+" is active already (epoch "+strconv.FormatInt(s.Epoch, 10)+")", alreadyThere[d])
	case s.Phase == PhaseAdvance:
		return notReady("step "+string(s.Recording)+" is being recorded on the source", "ask again in a moment")
	case s.Phase != PhaseRest && s.Phase != PhaseComplete: // what follows a switch is no part of an attempt: the next one does what it left
		return notReady("an attempt is under way (step "+string(s.Step)+", epoch "+strconv.FormatInt(s.Epoch, 10)+")",
			"wait for its end, or take it back with crossfade cutover --cancel")
	case s.Step == Copying || s.Step == CatchingUp:
		return notReady("the copy has not ended yet (step "+string(s.Step)+")", "wait until crossfade status says "+string(Following))
	case d == Reverse && !s.WayBack:
		return notReady("there is no way back: no reverse stream was set up", "keep the target: crossfade finish ends the migration")
	}
	return nil
}

// alreadyThere says what is left to do for who asks for a direction that leads to the active side.
var alreadyThere = map[Direction]string{
	Forward: "nothing is left to switch: crossfade status shows the comparison of both sides, crossfade finish ends the migration",
	Reverse: "nothing is left to take back: crossfade cutover switches to the target",
}

// operator takes what is asked for from outside: an attempt, a step, an end to either.
type operator struct {
	*transition
	undo    undoing
	attempt attempt
}

// requested begins what an operator asks for, or says why it does not.
func (o operator) requested(e Requested) {
	if why := o.RefuseCutover(e.Direction); why != nil {
		o.emit(Refuse{ID: e.ID, Obstacle: *why})
		return
	}
	o.Request = Request{ID: e.ID, Mode: e.Mode, AllowBypass: e.AllowBypass, Unmovable: e.Unmovable}
	o.Limits = e.Limits.Or(o.Limits)
	o.Attempt, o.Ending, o.Reason, o.Verdict, o.Recorded = 1, EndNone, "", VerdictUnknown, false
	if o.Request.Mode == ModeDryRun {
		o.attempt.survey()
		return
	}
	o.Direction = e.Direction
	o.Epoch++
	o.Step = Idle // of the new epoch, until the claim says arming; a claim in doubt is settled by taking the journal
	o.ask(PhaseClaim, Ops(OpClaim))
}

// advanced records a step outside of an attempt, or says why it does not.
func (o operator) advanced(e Advanced) {
	switch {
	case o.Phase != PhaseRest || o.Stopping:
		o.emit(Refuse{ID: e.ID, Obstacle: *notReady("not now: waiting for "+o.Waiting(), "wait: crossfade status shows the phase")})
	case o.Step == e.To:
		o.emit(Answer{ID: e.ID, Outcome: OutcomeRecorded})
	case !canAdvance(o.Step, e.To) || e.To == Finished && o.Active() != SideTarget:
		o.emit(Refuse{ID: e.ID, Obstacle: *notReady("step "+string(o.Step)+" is not followed by "+string(e.To), "wait: crossfade status shows the phase")})
	default:
		o.Request.ID, o.Ending, o.Reason = e.ID, EndNone, ""
		o.record(PhaseAdvance, e.To)
	}
}

// stopped ends an attempt that may be ended. Undoing continues, and so does an attempt that may be
// decided.
func (o operator) stopped() {
	o.Stopping = true
	switch {
	case o.Phase.Abortable():
		o.undo.unwind(EndAbort, "crossfade is being stopped")
	case o.Ending == EndRetry:
		o.Ending, o.Reason = EndAbort, "crossfade is being stopped"
	}
}

// withdrawn ends the attempt of a request as long as it may be ended. Undoing continues, without a
// further attempt; an attempt that may be decided continues.
func (o operator) withdrawn(e Withdrawn) {
	switch {
	case e.ID == 0 || e.ID != o.Request.ID: // it has its answer
	case o.Phase.Abortable():
		o.undo.unwind(EndAbort, e.Reason)
	case o.Ending == EndRetry:
		o.Ending, o.Reason = EndAbort, e.Reason
	case o.Ending == EndNone:
		o.note("withdraw", "too late, the decision may have been taken: "+e.Reason)
	}
}
