package machine

import "strings"

// Op is one call of a port. Ops exist as values so that the machine can keep a set of those that
// are outstanding.
type Op uint8

const (
	OpTake Op = iota
	OpClaim
	OpRecord
	OpCensus
	OpLag
	OpSequences
	OpFingerprintSource
	OpFingerprintTarget
	OpPrepareFence
	OpPrepareReverse
	OpPrepareSnapshots
	OpDiscardSnapshots
	OpRehearseDecision
	OpStage
	OpPrelockSource
	OpPrelockTarget
	OpPause
	OpExpel
	OpFence
	OpWaitMarker
	OpRestage
	OpOpenSnapshots
	OpDecide
	OpDecision
	OpReject
	OpSwitch
	OpComplete
	OpStartVerification
	OpUnfence
	OpResume
	OpReleaseSource
	OpReleaseTarget
	OpContinue
	OpDiscardStaged
	OpYieldTarget
	OpInspectSessions
	OpCount
)

var opNames = [OpCount]string{
	OpTake: "take", OpClaim: "claim", OpRecord: "record", OpCensus: "census", OpLag: "lag", OpSequences: "sequences",
	OpFingerprintSource: "fingerprint_source", OpFingerprintTarget: "fingerprint_target", OpPrepareFence: "prepare_fence",
	OpPrepareReverse: "prepare_reverse", OpPrepareSnapshots: "prepare_snapshots",
	OpDiscardSnapshots: "discard_snapshots", OpRehearseDecision: "rehearse_decision", OpStage: "stage",
	OpPrelockSource: "prelock_source", OpPrelockTarget: "prelock_target", OpPause: "pause", OpExpel: "expel",
	OpFence: "fence", OpWaitMarker: "wait_marker", OpRestage: "restage", OpOpenSnapshots: "open_snapshots",
	OpDecide: "decide", OpDecision: "decision", OpReject: "reject", OpSwitch: "switch", OpComplete: "complete",
	OpStartVerification: "start_verification", OpUnfence: "unfence", OpResume: "resume",
	OpReleaseSource: "release_source", OpReleaseTarget: "release_target", OpContinue: "continue",
	OpDiscardStaged: "discard_staged", OpYieldTarget: "yield_target", OpInspectSessions: "look",
}

func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "unknown"
}

// acquires says what has to be undone once an op has been requested, whatever its result.
func (o Op) acquires() Held { return acquired[o] }

var acquired = [OpCount]Held{
	OpStage: HeldStaged, OpPrelockSource: HeldSourceLock, OpPrelockTarget: HeldTargetLock, OpPause: HeldGate,
	OpFence: HeldFence | HeldStream, OpPrepareSnapshots: HeldSnapshots, OpOpenSnapshots: HeldSnapshots,
}

// releases says what an op releases. Fence and Decide end the pre-lock of their side whatever their
// outcome.
func (o Op) releases() Held { return released[o] }

var released = [OpCount]Held{
	OpUnfence: HeldFence, OpResume: HeldGate, OpSwitch: HeldGate,
	OpFence: HeldSourceLock, OpReleaseSource: HeldSourceLock, OpDecide: HeldTargetLock, OpReleaseTarget: HeldTargetLock,
	OpContinue: HeldStream, OpDiscardSnapshots: HeldSnapshots, OpDiscardStaged: HeldStaged,
}

// essential reports whether an op of an undo, or of what follows a decision, is repeated until it
// succeeds. The others are cleaning up; their failure is noted.
func (o Op) essential() bool { return Ops(OpResume, OpSwitch, OpContinue, OpComplete, OpRecord).Has(o) }

// OpSet is a set of ops.
type OpSet uint64

func Ops(list ...Op) OpSet {
	var s OpSet
	for _, o := range list {
		s = s.with(o)
	}
	return s
}

func (s OpSet) Has(o Op) bool      { return s&(1<<o) != 0 }
func (s OpSet) with(o Op) OpSet    { return s | 1<<o }
func (s OpSet) without(o Op) OpSet { return s &^ (1 << o) }

// Each visits the ops of the set in the order of their declaration.
func (s OpSet) Each(visit func(Op)) {
	for o := Op(0); o < OpCount; o++ {
		if s.Has(o) {
			visit(o)
		}
	}
}

func (s OpSet) String() string {
	var names []string
	s.Each(func(o Op) { names = append(names, o.String()) })
	return strings.Join(names, ",")
}

// Held is the set of what an attempt has asked for and must give back should it end without a
// decision. A member is entered when it is asked for, not when it is granted: a call that failed
// may have succeeded.
type Held uint8

const (
	HeldGate       Held = 1 << iota // the gate is closed
	HeldSourceLock                  // the pre-lock on the closing side
	HeldTargetLock                  // the pre-lock on the opening side
	HeldFence                       // the fence; the journal's row has the truth
	HeldStream                      // the stream waits at the marker
	HeldStaged                      // warm servers with replayed sessions
	HeldSnapshots                   // verification snapshots on both sides
)

var heldNames = []struct {
	held Held
	name string
}{
	{HeldGate, "gate"}, {HeldSourceLock, "source_lock"}, {HeldTargetLock, "target_lock"}, {HeldFence, "fence"},
	{HeldStream, "stream"}, {HeldStaged, "staged"}, {HeldSnapshots, "snapshots"},
}

func (h Held) String() string {
	var names []string
	for _, n := range heldNames {
		if h&n.held != 0 {
			names = append(names, n.name)
		}
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ",")
}
