package machine

import (
	"fmt"
	"time"
)

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
