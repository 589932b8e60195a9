package machine

// Phase is the finer part of the state, kept in memory only: what the machine waits for inside of a
// step. A restart forgets it and derives what to do from the journalled step alone.
type Phase uint8

const (
	PhaseStart          Phase = iota // before the journal was read for the first time
	PhaseRest                        // nothing is going on
	PhaseAdvance                     // a step outside of an attempt is being recorded
	PhaseClaim                       // the epoch is being claimed
	PhaseSurvey                      // census, lag, sequences, fingerprints
	PhasePrepare                     // fence triggers are made, comparisons stopped
	PhaseRehearse                    // the decision is tried and rolled back
	PhaseStage                       // sessions are staged on their warm servers
	PhasePrelock                     // pre-locks on both sides
	PhaseRecordPausing               // "pausing" is being recorded
	PhasePause                       // the gate is closed, sessions drain
	PhaseExpel                       // server connections of other incarnations are terminated
	PhaseFence                       // the fence transaction
	PhaseRecordDraining              // "draining" is being recorded
	PhaseMarker                      // the marker is awaited
	PhaseProve                       // sequences, fingerprints, changed sessions, snapshots
	PhaseRecordDeciding              // "deciding" is being recorded
	PhaseDecide                      // the decision transaction
	PhaseRegister                    // the register is asked what became of the decision
	PhaseReject                      // an abort is being put into the register
	PhaseRecordDecided               // "decided" is being recorded
	PhaseSwitch                      // the route changes, the gate opens
	PhaseComplete                    // what follows a switch, in the background
	PhaseTake                        // the journal is taken and read: recovery, and the beginning of every abort
	PhaseUndo                        // the abort is recorded, with the fence removed
	PhaseReopen                      // gate opened, locks and snapshots released
	PhaseDiscard                     // staged servers are dropped
	PhaseBackoff                     // the next attempt is awaited
	PhaseCount
)

var phaseNames = [PhaseCount]string{
	PhaseStart: "start", PhaseRest: "rest", PhaseAdvance: "advance", PhaseClaim: "claim", PhaseSurvey: "survey",
	PhasePrepare: "prepare", PhaseRehearse: "rehearse", PhaseStage: "stage", PhasePrelock: "prelock",
	PhaseRecordPausing: "record_pausing", PhasePause: "pause", PhaseExpel: "expel", PhaseFence: "fence",
	PhaseRecordDraining: "record_draining", PhaseMarker: "marker", PhaseProve: "prove",
	PhaseRecordDeciding: "record_deciding", PhaseDecide: "decide", PhaseRegister: "register", PhaseReject: "reject",
	PhaseRecordDecided: "record_decided", PhaseSwitch: "switch", PhaseComplete: "complete", PhaseTake: "take",
	PhaseUndo: "undo", PhaseReopen: "reopen", PhaseDiscard: "discard", PhaseBackoff: "backoff",
}

func (p Phase) String() string {
	if int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return "unknown"
}

// Abortable reports whether an attempt is under way and the decision has certainly not been asked
// for.
func (p Phase) Abortable() bool {
	return p >= PhaseClaim && p <= PhaseRecordDeciding || p == PhaseBackoff
}

// Paused reports whether the gate is closed for an attempt that --max-pause still bounds.
func (p Phase) Paused() bool { return p >= PhasePause && p <= PhaseRecordDeciding }

// unwinding reports whether an attempt is being undone or a restart is being recovered from.
func (p Phase) unwinding() bool {
	return p == PhaseTake || p == PhaseUndo || p == PhaseReopen || p == PhaseDiscard
}

// waiting says what each phase waits for; the text is shown by status.
var waiting = [PhaseCount]string{
	PhaseStart:          "the journal to be read",
	PhaseAdvance:        "the step to be recorded",
	PhaseClaim:          "the epoch to be claimed",
	PhaseSurvey:         "census, lag, sequences and fingerprints",
	PhasePrepare:        "the fence triggers and the way back to be prepared",
	PhaseRehearse:       "the decision to be rehearsed",
	PhaseStage:          "the sessions to be staged",
	PhasePrelock:        "the pre-locks on both sides",
	PhaseRecordPausing:  "\"pausing\" to be recorded",
	PhasePause:          "the open transactions to end",
	PhaseExpel:          "the connections of other proxies to end",
	PhaseFence:          "the fence to be committed",
	PhaseRecordDraining: "\"draining\" to be recorded",
	PhaseMarker:         "the marker to be applied",
	PhaseProve:          "sequences, fingerprints, changed sessions and snapshots",
	PhaseRecordDeciding: "\"deciding\" to be recorded",
	PhaseDecide:         "the decision to be committed",
	PhaseRegister: "the word of the side that opens: it is not known whether the decision was committed; " +
		"sessions stay held up to their hold limit and nothing is undone until it answers",
	PhaseReject: "an abort to be put into the decision register: it is not known whether the decision was committed; " +
		"sessions stay held up to their hold limit and nothing is undone until it answers",
	PhaseRecordDecided: "\"decided\" to be recorded",
	PhaseSwitch:        "the route to change: the decision stands",
	PhaseComplete:      "foreign keys to be validated, in the background",
	PhaseTake:          "the journal of the side that may be active: what it says is what will be done; the gate stays as it is until it answers",
	PhaseUndo:          "the fence to be removed and the abort to be recorded",
	PhaseReopen:        "the gate to be opened",
	PhaseDiscard:       "the staged servers to be dropped",
	PhaseBackoff:       "the next attempt",
}
