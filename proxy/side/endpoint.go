package side

import (
	"context"
	"fmt"

	"crossfade/proxy/backend"
	"crossfade/proxy/wire"
)

// Names of the two endpoints.
const (
	Source = "source"
	Target = "target"
)

// Endpoint is one of the two sides as the proxy needs it. Its functions are called concurrently.
type Endpoint struct {
	Name string         // Source or Target
	Dial backend.Config // address and TLS; the rest is filled in for each session
	// Credentials returns the name and password with which a client's role logs in
	// on this side; ok is false for a role that is not known there.
	Credentials func(user string) (name, password string, ok bool)
	// Role translates the name of a role of the clients' side to the one that it is on this side,
	// whether or not it can log in; nil goes by the names of Credentials.
	Role func(name string) string
	// ShutOut reports why a client's role may not connect to the database, if the side's own
	// servers need not know; nil for none.
	ShutOut func(user string) bool
	// Proofs says that this side's servers keep the very secrets that Auth has for users who are
	// not among Credentials: what a client proves itself by logs it in there, under its own name.
	Proofs bool
	// Database translates the name that a client asks for, "" to refuse it; nil keeps it.
	Database func(name string) string
	// Pins returns settings that sessions of this side get at start-up, after the client's own; nil
	// for none. user and database are the client's names.
	Pins func(ctx context.Context, user, database string) ([]wire.Param, error)
}

// Validate refuses a side that cannot be connected to.
func (e *Endpoint) Validate() error {
	switch {
	case e.Dial.Address == "":
		return fmt.Errorf("endpoint %s has no address", e.Name)
	case e.Credentials == nil:
		return fmt.Errorf("endpoint %s has no credentials", e.Name)
	}
	return nil
}

// DatabaseOf returns the name there of what a client asks for, "" to refuse it.
func (e *Endpoint) DatabaseOf(name string) string {
	if e.Database == nil {
		return name
	}
	return e.Database(name)
}

// Roles returns the translation of names of roles from the side where the session
// is logged in as here to the one where it is logged in as there.
func Roles(here, there string, to *Endpoint) func(string) string {
	return func(name string) string {
		if name == here {
			return there
		}
		if to.Role != nil {
			return to.Role(name)
		}
		if mapped, _, ok := to.Credentials(name); ok {
			return mapped
		}
		return name
	}
}

// Pinned returns the settings that sessions of this side get at start-up.
func (e *Endpoint) Pinned(ctx context.Context, user, database string) ([]wire.Param, error) {
	if e.Pins == nil {
		return nil, nil
	}
	pins, err := e.Pins(ctx, user, database)
	if err != nil {
		return nil, fmt.Errorf("read the settings to pin at the %s: %w", e.Name, err)
	}
	return pins, nil
}
