package proxy

import (
	"crossfade/proxy/move"
	"crossfade/proxy/session"
	"crossfade/proxy/side"
)

// The names of the two endpoints.
const (
	Source = side.Source
	Target = side.Target
)

type (
	// Endpoint is one of the two sides as the proxy needs it.
	Endpoint = side.Endpoint
	// TypeStore keeps the numbers of users' types that clients know.
	TypeStore = side.TypeStore

	// SessionNote is one session as a report names it.
	SessionNote = session.Note
	// Held tells how long clients waited.
	Held = session.Held

	// StageReport is the outcome of Stage and Restage.
	StageReport = move.StageReport
	// SwitchReport is the outcome of Switch.
	SwitchReport = move.SwitchReport

	// DrainTimeoutError says which sessions were in the way when the time of a pause was over.
	DrainTimeoutError = move.DrainTimeoutError
	// UnmovableError says which sessions cannot be moved, and why.
	UnmovableError = move.UnmovableError
	// HeldError says which sessions cannot be moved yet, and why.
	HeldError = move.HeldError

	// Unmovable says what a move does with sessions that cannot be moved.
	Unmovable = move.Unmovable
)

// What a move does with sessions that cannot be moved.
const (
	UnmovableAbort      = move.UnmovableAbort
	UnmovableWait       = move.UnmovableWait
	UnmovableDisconnect = move.UnmovableDisconnect
	UnmovableName       = move.UnmovableName
)

// ReadPins returns what the settings are that change results, at an endpoint and for a client's
// role.
var ReadPins = side.ReadPins
