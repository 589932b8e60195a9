package machine

import "time"

// Stage is one entry of the script: a phase, and what is asked for when it is entered.
type Stage struct {
	Phase   Phase
	Calls   OpSet
	Records StepName // instead of calls: a step to be recorded
}

// Script is the order of an attempt. Its order is the protocol: see doc.go. Phases that are not in
// it (register, undo and the like) are reached by what happened, not by what is next.
type Script []Stage

// Protocol is the script that Step follows. It is never written.
var Protocol = Script{
	{Phase: PhaseClaim, Calls: Ops(OpClaim)},
	{Phase: PhaseSurvey, Calls: Ops(OpCensus, OpLag, OpSequences, OpFingerprintSource, OpFingerprintTarget)},
	{Phase: PhasePrepare, Calls: Ops(OpPrepareFence, OpPrepareSnapshots)},
	{Phase: PhaseRehearse, Calls: Ops(OpRehearseDecision)},
	{Phase: PhaseStage, Calls: Ops(OpStage)},
	{Phase: PhasePrelock, Calls: Ops(OpPrelockSource, OpPrelockTarget)},
	{Phase: PhaseRecordPausing, Records: Pausing},
	{Phase: PhasePause, Calls: Ops(OpPause)},
	{Phase: PhaseExpel, Calls: Ops(OpExpel)},
	{Phase: PhaseFence, Calls: Ops(OpFence)}, // records "fenced" in its own transaction
	{Phase: PhaseRecordDraining, Records: Draining},
	{Phase: PhaseMarker, Calls: Ops(OpWaitMarker)},
	{Phase: PhaseProve, Calls: Ops(OpSequences, OpFingerprintSource, OpFingerprintTarget, OpRestage, OpOpenSnapshots)},
	{Phase: PhaseRecordDeciding, Records: Deciding},
	{Phase: PhaseDecide, Calls: Ops(OpDecide)}, // the register's row is the record
	{Phase: PhaseRecordDecided, Records: Decided},
	{Phase: PhaseSwitch, Calls: Ops(OpSwitch)},
	{Phase: PhaseComplete, Calls: Ops(OpComplete, OpStartVerification)},
}

// find is the stage of a phase.
func (sc Script) find(p Phase) (Stage, bool) {
	for _, st := range sc {
		if st.Phase == p {
			return st, true
		}
	}
	return Stage{}, false
}

// after is the stage after a phase.
func (sc Script) after(p Phase) (Stage, bool) {
	for i, st := range sc {
		if st.Phase == p && i+1 < len(sc) {
			return sc[i+1], true
		}
	}
	return Stage{}, false
}

// bound is how long a call may take. Records and calls of the journal have journalBound.
func bound(o Op, l Limits) time.Duration {
	switch o {
	case OpCensus, OpLag, OpSequences, OpFingerprintSource, OpFingerprintTarget, OpInspectSessions:
		return surveyBound
	case OpPrepareFence, OpPrepareSnapshots, OpDiscardSnapshots:
		return prepareBound
	case OpRehearseDecision:
		return rehearseBound
	case OpStage:
		return stageBound
	case OpPrelockSource, OpPrelockTarget:
		return prelockBound
	case OpPause:
		return l.DrainTimeout + drainSlack
	case OpExpel:
		return expelBound
	case OpFence:
		return fenceBound
	case OpWaitMarker:
		return markerBound
	case OpRestage, OpOpenSnapshots:
		return proveBound
	case OpDecide:
		return DecideBound
	case OpDecision, OpReject:
		return registerBound
	case OpSwitch:
		return switchBound
	case OpComplete, OpStartVerification:
		return completeBound
	case OpUnfence:
		return unfenceBound
	case OpResume, OpReleaseSource, OpReleaseTarget, OpContinue, OpYieldTarget:
		return reopenBound
	case OpDiscardStaged:
		return discardBound
	default:
		return journalBound
	}
}

// PhaseBound is the bound of a call in its phase: inside the pause nothing may take as long as it
// may outside.
func PhaseBound(p Phase, o Op, l Limits) time.Duration {
	b := bound(o, l)
	if p == PhaseProve {
		switch b = min(b, proveBound); o {
		case OpPrelockTarget:
			b = relockBound
		case OpFingerprintSource: // reads what no stream carries: as long as the operator lets the clients wait
			b = max(b, l.MaxPause-l.DrainTimeout)
		}
	}
	if p == PhaseReopen {
		b = min(b, reopenBound)
	}
	return b
}
