package cutover

import "time"

// stage is one entry of the script: a phase, and what is asked for when it is entered.
type stage struct {
	phase   Phase
	calls   OpSet
	records StepName // instead of calls: a step to be recorded
}

// script is the order of an attempt. Its order is the protocol: see doc.go. Phases that are not in it (register, undo and
// the like) are reached by what happened, not by what is next.
type script []stage

// protocol is the script that Step follows. It is never written.
var protocol = script{
	{phase: PhaseClaim, calls: ops(OpClaim)},
	{phase: PhaseSurvey, calls: ops(OpCensus, OpLag, OpSequences, OpFingerprintSource, OpFingerprintTarget)},
	{phase: PhasePrepare, calls: ops(OpPrepareFence, OpPrepareSnapshots)},
	{phase: PhaseRehearse, calls: ops(OpRehearseDecision)},
	{phase: PhaseStage, calls: ops(OpStage)},
	{phase: PhasePrelock, calls: ops(OpPrelockSource, OpPrelockTarget)},
	{phase: PhaseRecordPausing, records: Pausing},
	{phase: PhasePause, calls: ops(OpPause)},
	{phase: PhaseExpel, calls: ops(OpExpel)},
	{phase: PhaseFence, calls: ops(OpFence)}, // records "fenced" in its own transaction
	{phase: PhaseRecordDraining, records: Draining},
	{phase: PhaseMarker, calls: ops(OpWaitMarker)},
	{phase: PhaseProve, calls: ops(OpSequences, OpFingerprintSource, OpFingerprintTarget, OpRestage, OpOpenSnapshots)},
	{phase: PhaseRecordDeciding, records: Deciding},
	{phase: PhaseDecide, calls: ops(OpDecide)}, // the register's row is the record
	{phase: PhaseRecordDecided, records: Decided},
	{phase: PhaseSwitch, calls: ops(OpSwitch)},
	{phase: PhaseComplete, calls: ops(OpComplete, OpStartVerification)},
}

// find is the stage of a phase.
func (sc script) find(p Phase) (stage, bool) {
	for _, st := range sc {
		if st.phase == p {
			return st, true
		}
	}
	return stage{}, false
}

// after is the stage after a phase.
func (sc script) after(p Phase) (stage, bool) {
	for i, st := range sc {
		if st.phase == p && i+1 < len(sc) {
			return sc[i+1], true
		}
	}
	return stage{}, false
}

// bound is how long a call may take. Records and calls of the journal have journalBound.
func bound(o Op, l Limits) time.Duration {
	switch o {
	case OpCensus, OpLag, OpSequences, OpFingerprintSource, OpFingerprintTarget, OpLook:
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
		return decideBound
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

// phaseBound is the bound of a call in its phase: inside the pause nothing may take as long as it may outside.
func phaseBound(p Phase, o Op, l Limits) time.Duration {
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
