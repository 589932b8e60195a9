package machine

import "strconv"

// undoing leads out of an attempt without a decision, and out of a restart. The two are the same
// walk: take the journal's row, which makes every write of an earlier owner miss its
// compare-and-set; do what the row says; only then open the gate.
type undoing struct{ *transition }

// started begins a recovery.
func (u undoing) started() {
	if u.Phase == PhaseStart {
		u.ask(PhaseTake, Ops(OpTake))
	}
}

// unwind leaves the attempt for an end without a decision.
func (u undoing) unwind(end Ending, reason string) {
	if u.Request.Mode == ModeDryRun {
		u.answer(OutcomePlanned, reason)
		u.rest()
		return
	}
	u.Ending, u.Reason = end, reason
	u.note("abort", reason)
	u.ask(PhaseTake, Ops(OpTake))
}

// retry unwinds and tries again, while attempts are left.
func (u undoing) retry(reason string) {
	if u.Attempt >= u.Limits.Attempts || u.Stopping {
		u.unwind(EndAbort, reason+"; tried "+strconv.Itoa(u.Attempt)+" times")
		return
	}
	u.unwind(EndRetry, reason)
}

// unread: the journal did not answer, or did not take what was to be recorded. Its row is read
// again until it does; nothing is opened before.
func (u undoing) unread() {
	u.Phase = PhaseTake
	u.again(Ops(OpTake))
}

// loaded does what the journal's row says.
func (u undoing) loaded(r Record) {
	if !r.Step.Known() || r.Direction != Forward && r.Direction != Reverse {
		u.emit(Alarm{Detail: "the journal says step \"" + string(r.Step) + "\", direction \"" + string(r.Direction) +
			"\", which this release does not know: nothing is done; use the release that wrote it"})
		u.unread()
		return
	}
	if u.Ending == EndRetry && (r.Epoch != u.Epoch || r.Step != Arming && r.Step != Pausing) {
		u.Ending = EndAbort
	}
	if r.Epoch != u.Epoch {
		u.Verdict = VerdictUnknown
	}
	u.Epoch, u.Direction, u.Step = r.Epoch, r.Direction, r.Step
	u.note(OpTake.String(), "epoch "+strconv.FormatInt(r.Epoch, 10)+" "+string(r.Step))
	switch r.Step {
	case Arming, Pausing:
		u.Held &^= HeldFence // the fence records itself: it cannot be there
		to := Idle
		if u.Ending == EndRetry {
			to = Arming
		}
		u.record(PhaseUndo, to)
	case Fenced, Draining:
		u.unfence()
	case Deciding:
		if u.Verdict == VerdictAbort {
			u.unfence()
			return
		}
		u.Held |= HeldFence | HeldStream
		u.ask(PhaseRegister, Ops(OpDecision))
	case Decided:
		u.Recorded, u.Verdict = true, VerdictCommit
		u.ask(PhaseSwitch, Ops(OpSwitch))
	default:
		u.Held &^= HeldFence
		u.reopen()
	}
}

// unfence removes the fence and records the abort, in one transaction of the port.
func (u undoing) unfence() {
	u.Held |= HeldFence | HeldStream
	u.Recording = Idle
	u.ask(PhaseUndo, Ops(OpUnfence))
}

// undone: the abort is on record.
func (u undoing) undone() {
	u.Step = u.Recording
	u.reopen()
}

// reopen gives back everything but the staged servers. The journal has said that the closing side
// is active.
func (u undoing) reopen() {
	var calls OpSet
	if u.Held&HeldGate != 0 {
		if u.Ending == EndRecover && u.Active() != SideSource {
			calls = calls.with(OpSwitch) // a proxy that has just been started routes to the source
		} else {
			calls = calls.with(OpResume)
		}
	}
	for _, give := range []struct {
		held Held
		op   Op
	}{{HeldSourceLock, OpReleaseSource}, {HeldTargetLock, OpReleaseTarget}, {HeldStream, OpContinue}, {HeldSnapshots, OpDiscardSnapshots}} {
		if u.Held&give.held != 0 {
			calls = calls.with(give.op)
		}
	}
	if calls == 0 {
		u.turn(PhaseReopen)
		u.reopened()
		return
	}
	u.ask(PhaseReopen, calls)
}

// reopened: all has been given back but the staged servers, which another attempt takes over.
func (u undoing) reopened() {
	u.GenOf.SourceLock, u.GenOf.TargetLock = 0, 0
	if u.Held&HeldStaged != 0 && u.Ending != EndRetry {
		u.ask(PhaseDiscard, Ops(OpDiscardStaged))
		return
	}
	u.ended()
}

// ended is the end of an attempt without a decision, or of a recovery.
func (u undoing) ended() {
	switch {
	case u.Ending == EndRetry && u.Step == Arming:
		after := doubled(attemptFirst, attemptMost, u.Attempt-1)
		u.turn(PhaseBackoff)
		u.note("backoff", "attempt "+strconv.Itoa(u.Attempt)+" of "+strconv.Itoa(u.Limits.Attempts)+": "+u.Reason)
		u.emit(StartTimer{Timer: TimerPhase, Gen: u.Gen, After: after})
	case !u.Step.Resting():
		u.ask(PhaseTake, Ops(OpTake)) // a retry that was stopped on its way: its record still says arming
	case u.Ending == EndRehearsed:
		u.answer(OutcomeRehearsed, "")
		u.rest()
	default:
		u.answer(OutcomeAborted, u.Reason)
		u.rest()
	}
}
