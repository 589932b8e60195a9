package cutover

import (
	"context"
	"time"
)

// Traffic is the proxy. Its methods are called one at a time; a call is begun before the one before it has returned only
// if that one ignored the end of its context for laneGrace.
type Traffic interface {
	// Stage captures every session at a boundary, replays it on its own warm server of the opening side, captures it
	// there and compares (C4). Sessions go on where they are. It may be called again and then does what is missing.
	// An error names the session that cannot move, with the reason; ErrHeld, wrapped, when that may pass. The policy holds
	// for Pause and Restage of the same epoch too.
	Stage(ctx context.Context, epoch int64, policy StagePolicy) (StageReport, error)

	// Pause closes the gate and returns when every session is parked, no login is under way and no COMMIT is without its
	// answer. On any error the gate is open again; ErrDrainTimeout, wrapped with the sessions that were in the way, when
	// drain has passed; ErrHeld when one cannot be moved yet and the policy is to wait.
	Pause(ctx context.Context, epoch int64, drain time.Duration) (PauseReport, error)

	// Restage, with the gate closed, captures the sessions again that sent a frame since, stages new ones, and makes every
	// LISTEN and takes every advisory lock of the difference. Under UnmovableDisconnect it closes what cannot be moved.
	Restage(ctx context.Context, epoch int64) (StageReport, error)

	// Resume opens the gate towards the side that was active, and says how long clients were held since it was closed. It is
	// called on the word of the journal only (C18), also when the gate is open already, and at the start.
	Resume(ctx context.Context, epoch int64) (ResumeReport, error)

	// Switch changes the route and opens the gate towards a side. Differences are replayed by each session's owner before
	// its first statement is forwarded. It is repeated when it fails, and also called at the start of a process for
	// which the target is active.
	Switch(ctx context.Context, epoch int64, to Side) (SwitchReport, error)

	// Look finds out, without staging anything, which sessions would not move.
	Look(ctx context.Context) (SessionsReport, error)

	// Discard drops the warm servers.
	Discard(ctx context.Context) error

	// Ended returns how many clients were ended in attempts since the process began, whoever ended them, and names
	// those of the latest attempt. It does not wait.
	Ended() (total int, latest []string)
}

// SessionsReport says which sessions a cutover would meet. Holding are those that cannot be moved now and may become
// movable, Red those that never can, each with its reason.
type SessionsReport struct {
	Sessions     int
	Holding, Red []string
}

// StageReport says how many sessions were staged.
type StageReport struct {
	Sessions     int
	Unmovable    []string // those that cannot be moved, each with its reason; not with UnmovableAbort
	Disconnected int      // how many of them were closed
}

// PauseReport says how many sessions are parked.
type PauseReport struct{ Sessions int }

// ResumeReport says what a pause that came to nothing was like for the clients.
type ResumeReport struct{ Held Waits }

// SwitchReport says what the move was like for the clients.
type SwitchReport struct {
	Held         Waits
	ClientErrors int // clients that were ended since the attempt began
}

// Waits says how long sessions were held: from the first byte held to the first byte forwarded again, to the new server
// where there is one.
type Waits struct {
	Sessions      int
	P50, P99, Max time.Duration
}
