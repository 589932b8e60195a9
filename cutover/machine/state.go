package machine

import (
	"fmt"
	"time"
)

// State is everything the machine knows. It is a comparable value without pointers: a copy is a
// snapshot.
type State struct {
	Direction Direction
	Step      StepName // as journalled, or as the register says
	Phase     Phase
	Epoch     int64 // of the attempt under way, or of the last one
	Attempt   int   // from 1; 0 outside of an attempt
	Limits    Limits
	WayBack   bool // a reverse stream exists, so that a fallback may be asked for
	Request   Request
	Survey    Survey

	Held    Held   // what an abort has to give back
	Pending OpSet  // calls outstanding in this phase
	Todo    OpSet  // calls to be repeated when the back-off has passed
	Backoff bool   // the timer of this phase is a back-off
	Tries   int    // consecutive failures in this phase, up to maxTries
	Gen     uint64 // generation of this phase: results and timers of any other are late
	GenOf   Generations

	Recording StepName // what PhaseUndo, PhaseAdvance and the record phases are recording
	Recorded  bool     // "decided" is on record at the closing side
	Verdict   Verdict  // what the register is known to say about Epoch
	Ending    Ending   // why the attempt is being undone
	Reason    string   // the same in words
	Stopping  bool     // Run has been asked to end
	Settled   bool     // the journal was read and what it said was done: Active means something
}

// Request is what is being served, and for whom.
type Request struct {
	ID          uint64 // the request that waits for the answer; 0 for none
	Mode        Mode
	AllowBypass bool      // rehearse although writers bypass the proxy
	Unmovable   Unmovable // what becomes of sessions that cannot be moved
}

// Survey is what was found before anything is touched; the fingerprints are taken again after the
// fence.
type Survey struct {
	SourceSum string // fingerprints of the closing and the opening side
	TargetSum string
	Bypass    int   // writers that bypass the proxy
	LagBytes  int64 // how far the stream lagged
	LagDelay  time.Duration
}

// Generations are those in which something was requested that outlives its phase.
type Generations struct {
	Pause      uint64 // the --max-pause timer
	SourceLock uint64 // the pre-lock of each side
	TargetLock uint64
}

// Begin is the state before the journal was read. The gate is taken to be closed: only the word of
// the journal opens it.
func Begin(limits Limits, wayBack bool) State {
	return State{
		Direction: Forward, Step: Idle, Phase: PhaseStart, Limits: limits, WayBack: wayBack,
		Held: HeldGate, Ending: EndRecover, Gen: 1,
	}
}

// RecordedBefore is the step that the journal's row must show for Recording to be recorded.
// "decided" follows from the register and is entered before it is recorded.
func (s State) RecordedBefore() StepName {
	if s.Recording == Decided {
		return Deciding
	}
	return s.Step
}

// Active is the side that applications are to use.
func (s State) Active() Side {
	switch s.Step {
	case Finished:
		return SideTarget
	case Decided:
		return s.Direction.Opening()
	default:
		return s.Direction.Closing()
	}
}

// Ready reports whether the step allows a cutover asked for now; if not, why.
func (s State) Ready() (bool, Obstacle) {
	if why := s.RefuseCutover(Forward); why != nil {
		return false, *why
	}
	return true, Obstacle{}
}

// Waiting says what the machine waits for; empty for nothing.
func (s State) Waiting() string { return waiting[s.Phase] }

// Outcome of a request. The first three are the faces of `crossfade cutover --json`.
type Outcome string

const (
	OutcomeSwitched  Outcome = "switched"
	OutcomeAborted   Outcome = "aborted"
	OutcomeRehearsed Outcome = "rehearsed"
	OutcomePlanned   Outcome = "planned"  // a dry run ended
	OutcomeRecorded  Outcome = "recorded" // a step outside of an attempt was recorded
)

// Mode of a request.
type Mode uint8

const (
	ModeCutover  Mode = iota // up to the switch
	ModeRehearse             // everything up to the decision, then undone
	ModeDryRun               // the survey only: nothing is changed
)

func (m Mode) String() string {
	return [...]string{"cutover", "rehearse", "dry_run"}[m]
}

// Ending says why an attempt is undone.
type Ending uint8

const (
	EndNone      Ending = iota
	EndRecover          // a restart: no request waits for an answer
	EndAbort            // for good
	EndRetry            // to be tried again after a back-off
	EndRehearsed        // as asked
)

func (e Ending) String() string {
	return [...]string{"none", "recover", "abort", "retry", "rehearsed"}[e]
}

// Record is the journal's row of a run, as far as the machine needs it.
type Record struct {
	Epoch     int64
	Direction Direction
	Step      StepName
}

// Side names one of the two databases. The zero Side is none.
type Side string

const (
	SideSource Side = "source"
	SideTarget Side = "target"
)

// Direction says which side an epoch closes and which it opens. In everything below, "closing side"
// is the one that is active until the decision and "opening side" the one that is active after it.
type Direction string

const (
	Forward Direction = "forward" // closes the source, opens the target
	Reverse Direction = "reverse" // a fallback: closes the target, opens the source
)

// Closing is the side that is active before the decision.
func (d Direction) Closing() Side {
	if d == Reverse {
		return SideTarget
	}
	return SideSource
}

// Opening is the side that is active after the decision.
func (d Direction) Opening() Side {
	if d == Reverse {
		return SideSource
	}
	return SideTarget
}

// StepName is the part of a run's state that is journalled: the text in the step column of
// crossfade.run. The names are part of the faces (status --json) and of the schema; they never
// change meaning.
type StepName string

const (
	Copying    StepName = "copying"     // relations are being copied
	CatchingUp StepName = "catching_up" // the copy has ended, the stream still lags
	Following  StepName = "following"   // the stream keeps up; no cutover was tried yet
	Idle       StepName = "idle"        // an attempt has ended without a decision
	Arming     StepName = "arming"      // an epoch is claimed; applications notice nothing
	Pausing    StepName = "pausing"     // the gate is closed or about to be
	Fenced     StepName = "fenced"      // the closing side refuses writes, the marker is in its WAL
	Draining   StepName = "draining"    // the marker is awaited on the opening side
	Deciding   StepName = "deciding"    // the decision may have been taken: only the register knows
	Decided    StepName = "decided"     // the opening side is open; there is no way but forward
	Finished   StepName = "finished"    // our objects are gone
)

// Resting reports whether nothing of an attempt remains at this step: a restart finds nothing to
// undo.
func (n StepName) Resting() bool {
	switch n {
	case Copying, CatchingUp, Following, Idle, Decided, Finished:
		return true
	default:
		return false
	}
}

// Known reports whether n is one of the names above. A journal written by another release may hold
// others.
func (n StepName) Known() bool {
	switch n {
	case Arming, Pausing, Fenced, Draining, Deciding:
		return true
	default:
		return n.Resting()
	}
}

// canAdvance says which changes of step an operator or the replication may ask for, outside of an
// attempt.
func canAdvance(from, to StepName) bool {
	switch to {
	case CatchingUp:
		return from == Copying
	case Following:
		return from == Copying || from == CatchingUp
	case Finished:
		return from == Decided || from == Idle // after a fallback that was aborted; see advanced
	default:
		return false
	}
}

// Unmovable says what becomes of sessions that cannot be moved: those that hold temporary tables,
// cursors WITH HOLD and the like.
type Unmovable string

const (
	// UnmovableAbort ends the attempt, which names them. It is the default.
	UnmovableAbort Unmovable = "abort"
	// UnmovableWait waits for those that may become movable, at most the drain timeout in each
	// attempt.
	UnmovableWait Unmovable = "wait"
	// UnmovableDisconnect closes them with 57P01 in the pause, before "deciding".
	UnmovableDisconnect Unmovable = "disconnect"
	// UnmovableName names them and leaves them alone: a rehearsal of UnmovableDisconnect.
	UnmovableName Unmovable = "name"
)

// Validate refuses a policy that an operator cannot ask for.
func (u Unmovable) Validate() error {
	switch u {
	case UnmovableAbort, UnmovableWait, UnmovableDisconnect:
		return nil
	}
	return fmt.Errorf("--unmovable=%s: write wait, abort or disconnect", u)
}

// in is the policy as an attempt of this mode has it.
func (u Unmovable) in(m Mode) Unmovable {
	if u == UnmovableDisconnect && m == ModeRehearse {
		return UnmovableName
	}
	return u
}

// StagePolicy is what an attempt asks of its staging and of the pause after it.
type StagePolicy struct {
	Unmovable Unmovable
	Wait      time.Duration // of UnmovableWait: the longest wait in Stage
}

// Obstacle is one reason why a request is not begun: a stable code, what is wrong, and what to do
// about it.
type Obstacle struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy"`
}
