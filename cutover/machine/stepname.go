package machine

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
		return from == Decided
	default:
		return false
	}
}
