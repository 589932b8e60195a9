package move

import (
	"time"

	"crossfade/proxy/session"
)

// StageReport is the outcome of Stage and Restage.
type StageReport struct {
	Sessions int            `json:"sessions"`
	Captured int            `json:"captured"` // inspected in this call
	Staged   int            `json:"staged"`   // that have a warm server which is their mirror
	Unstaged []session.Note `json:"unstaged"` // without a boundary in time; left to the pause
	Amber    []session.Note `json:"amber"`    // that move with a loss
	// Unmovable are the sessions that cannot be moved and that the policy lets be: waited
	// for, to be disconnected (by Restage) or named. With UnmovableAbort they are the error.
	Unmovable    []session.Note `json:"unmovable"`
	Disconnected int            `json:"disconnected"` // of these, ended by this call
	Took         time.Duration  `json:"-"`
}

// PauseReport is the outcome of Pause.
type PauseReport struct {
	Sessions int           `json:"sessions"`
	Waiting  int           `json:"waiting"` // logins that wait at the gate
	Took     time.Duration `json:"-"`       // from the gate's closing until all were parked
}

// SwitchReport is the outcome of Switch.
type SwitchReport struct {
	Moved        int            `json:"moved"`
	ClientErrors int            `json:"client_errors"` // clients that were ended since the attempt began, see Failed
	Failed       []session.Note `json:"failed"`
	Held         session.Held   `json:"held"`
	Took         time.Duration  `json:"-"`
}
