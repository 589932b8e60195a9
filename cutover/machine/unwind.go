package machine

import "strconv"

// Undoing an attempt and recovering from a restart are the same walk: take the journal's row, which makes every write
// of an earlier owner miss its compare-and-set; do what the row says; only then open the gate.

// unwind leaves the attempt for an end without a decision.
func (t *transition) unwind(end Ending, reason string) {
	if t.Request.Mode == ModeDryRun {
		t.answer(OutcomePlanned, reason)
		t.rest()
		return
	}
	t.Ending, t.Reason = end, reason
	t.note("abort", reason)
	t.ask(PhaseTake, Ops(OpTake))
}

// retry unwinds and tries again, while attempts are left.
func (t *transition) retry(reason string) {
	if t.Attempt >= t.Limits.Attempts || t.Stopping {
		t.unwind(EndAbort, reason+"; tried "+strconv.Itoa(t.Attempt)+" times")
		return
	}
	t.unwind(EndRetry, reason)
}

func (t *transition) endingOr(e Ending) Ending {
	if t.Ending == EndNone {
		return e
	}
	return t.Ending
}

// unread: the journal did not answer, or did not take what was to be recorded. Its row is read again until it does;
// nothing is opened before. At a start the target may know better: a commit there stands whatever the source says, unless
// there is a way back, where a fence that an earlier process has sent to the target might still arrive.
func (t *transition) unread() {
	if t.Phase == PhaseTake && t.Ending == EndRecover && !t.WayBack {
		t.ask(PhaseNewest, Ops(OpDecision))
		return
	}
	t.Phase = PhaseTake
	t.again(Ops(OpTake))
}

// loaded does what the journal's row says.
func (t *transition) loaded(r Record) {
	if !r.Step.Known() || r.Direction != Forward && r.Direction != Reverse {
		t.emit(Alarm{Detail: "the journal says step \"" + string(r.Step) + "\", direction \"" + string(r.Direction) +
			"\", which this release does not know: nothing is done; use the release that wrote it"})
		t.unread()
		return
	}
	if t.Ending == EndRetry && (r.Epoch != t.Epoch || r.Step != Arming && r.Step != Pausing) {
		t.Ending = EndAbort
	}
	if r.Epoch != t.Epoch {
		t.Verdict = VerdictUnknown
	}
	t.Epoch, t.Direction, t.Step = r.Epoch, r.Direction, r.Step
	t.note(OpTake.String(), "epoch "+strconv.FormatInt(r.Epoch, 10)+" "+string(r.Step))
	switch r.Step {
	case Arming, Pausing:
		t.Held &^= HeldFence // the fence records itself: it cannot be there
		to := Idle
		if t.Ending == EndRetry {
			to = Arming
		}
		t.record(PhaseUndo, to)
	case Fenced, Draining:
		t.unfence()
	case Deciding:
		if t.Verdict == VerdictAbort {
			t.unfence()
			return
		}
		t.Held |= HeldFence | HeldStream
		t.ask(PhaseRegister, Ops(OpDecision))
	case Decided:
		t.Recorded, t.Verdict = true, VerdictCommit
		t.enterSwitch()
	default:
		t.Held &^= HeldFence
		t.reopen()
	}
}

// unfence removes the fence and records the abort, in one transaction of the port.
func (t *transition) unfence() {
	t.Held |= HeldFence | HeldStream
	t.Recording = Idle
	t.ask(PhaseUndo, Ops(OpUnfence))
}

func (t *transition) undone() {
	t.Step = t.Recording
	t.reopen()
}

// reopen gives back everything but the staged servers. The journal has said that the closing side is active.
func (t *transition) reopen() {
	var calls OpSet
	if t.Held&HeldGate != 0 {
		if t.Ending == EndRecover && t.Active() != SideSource {
			calls = calls.with(OpSwitch) // a proxy that has just been started routes to the source
		} else {
			calls = calls.with(OpResume)
		}
	}
	for _, give := range []struct {
		held Held
		op   Op
	}{{HeldSourceLock, OpReleaseSource}, {HeldTargetLock, OpReleaseTarget}, {HeldStream, OpContinue}, {HeldSnapshots, OpDiscardSnapshots}} {
		if t.Held&give.held != 0 {
			calls = calls.with(give.op)
		}
	}
	if calls == 0 {
		t.turn(PhaseReopen)
		t.reopened()
		return
	}
	t.ask(PhaseReopen, calls)
}

func (t *transition) reopened() {
	t.GenOf.SourceLock, t.GenOf.TargetLock = 0, 0
	if t.Held&HeldStaged != 0 && t.Ending != EndRetry {
		t.ask(PhaseDiscard, Ops(OpDiscardStaged))
		return
	}
	t.ended()
}

// ended is the end of an attempt without a decision, or of a recovery.
func (t *transition) ended() {
	switch {
	case t.Ending == EndRetry && t.Step == Arming:
		after := doubled(attemptFirst, attemptMost, t.Attempt-1)
		t.turn(PhaseBackoff)
		t.note("backoff", "attempt "+strconv.Itoa(t.Attempt)+" of "+strconv.Itoa(t.Limits.Attempts)+": "+t.Reason)
		t.emit(StartTimer{Timer: TimerPhase, Gen: t.Gen, After: after})
	case !t.Step.Resting():
		t.ask(PhaseTake, Ops(OpTake)) // a retry that was stopped on its way: its record still says arming
	case t.Ending == EndRehearsed:
		t.answer(OutcomeRehearsed, "")
		t.rest()
	default:
		t.answer(OutcomeAborted, t.Reason)
		t.rest()
	}
}
