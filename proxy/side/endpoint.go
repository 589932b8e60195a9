package side

import (
	"context"
	"errors"
	"fmt"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/proxy/ask"
	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
	"crossfade/proxy/state"
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
	return pins, pg.Wrap(err, "read the settings to pin at the %s", e.Name)
}

// Account is a role on one side, and what logs it in there.
type Account struct {
	Name     string
	Password string
	proof    auth.Proof // where there is no password
}

// Account returns what logs a client's role in on this side: what the configuration knows, or the
// proof that the client itself has given. The error is a *CredentialsError.
func (e *Endpoint) Account(user string, proof auth.Proof) (Account, error) {
	if name, password, ok := e.Credentials(user); ok {
		return Account{Name: name, Password: password}, nil
	}
	if e.Proofs && !proof.IsZero() {
		return Account{Name: user, proof: proof}, nil
	}
	return Account{}, &CredentialsError{User: user, Endpoint: e.Name}
}

// on fills the account into what is dialled.
func (a Account) on(c backend.Config) backend.Config {
	c.User, c.Password, c.Proof = a.Name, a.Password, a.proof
	return c
}

// CredentialsError says that a role has proved who it is, and cannot be logged in on a side:
// nothing is known there but what its password is checked with.
type CredentialsError struct {
	User, Endpoint string
}

func (e *CredentialsError) Error() string {
	return fmt.Sprintf("role %q has no credentials at the %s: its password there is not known; add the role to the users file, or map it to another one with --map-role", e.User, e.Endpoint)
}

// Terminate says good-bye to a server and closes the connection.
func Terminate(conn *backend.Conn) {
	_ = conn.SetDeadline(time.Now().Add(GoodbyeTimeout))
	_, _ = conn.Write(wire.AppendTerminate(nil))
	_ = conn.Close()
}

// Dial makes a server connection. If the server says that it will be available in a moment, for
// which Neon's proxy has messages of its own, it is asked again for a while.
//
// On the side that is not the clients' own, a server whose pid clients know as that of another
// session is closed and replaced.
func (s *Sides) Dial(ctx context.Context, to *Endpoint, as Account, database string, params []wire.Param) (*backend.Conn, error) {
	conn, err := s.dialAny(ctx, to, as, database, params)
	if err != nil {
		s.failed.Add(1)
	}
	for try := 0; err == nil && to.Name == Target && try < maxMisleading && s.Misleads(conn.PID); try++ {
		other, again := s.dialAny(ctx, to, as, database, params)
		Terminate(conn) // closed after the new one is made, so that the new one has another number
		conn, err = other, again
	}
	return conn, err
}

// FailedDials counts the logins that have brought no server, for whatever reason.
func (s *Sides) FailedDials() int64 { return s.failed.Load() }

// maxMisleading bounds how often another server is asked for.
const maxMisleading = 3

func (s *Sides) dialAny(ctx context.Context, to *Endpoint, as Account, database string, params []wire.Param) (conn *backend.Conn, err error) {
	c := as.on(to.Dial)
	c.Database, c.Params = database, params
	err = retry.Do(ctx, dialPolicy, func(ctx context.Context) error {
		conn, err = s.dialOnce(ctx, c)
		if class := backend.Classify(err); errors.As(err, new(*wire.ServerError)) && (class == backend.Retry || class == backend.BackOff) {
			return err
		}
		return retry.Permanent(err)
	})
	return conn, err
}

// dialPolicy bounds how long a login retries a server that says "in a moment". It holds a lease
// meanwhile, so a pause that begins then waits for it, or is given up and tried again.
var dialPolicy = retry.Policy{Initial: 200 * time.Millisecond, Max: time.Second, MaxElapsed: 5 * time.Second}

// dialOnce makes one try; at most MaxDials are made at once.
func (s *Sides) dialOnce(ctx context.Context, c backend.Config) (*backend.Conn, error) {
	done, err := s.Place(ctx)
	if err != nil {
		return nil, errors.Join(errors.New("wait for other logins"), err)
	}
	defer done()
	return backend.Dial(ctx, c)
}

// ReadPins logs in at the endpoint as a client's role would, requesting no settings at start-up,
// and returns the values there of every setting that changes results (Link.ReadPins), whatever set
// them. Endpoint.Pins of the other side returns them, so that new sessions there find the same
// values. They must be read before the switch, since the endpoint may be gone after it. Sessions
// that move bring their own values. user and database are the client's names.
func ReadPins(ctx context.Context, at Endpoint, user, database string) ([]wire.Param, error) {
	as, err := at.Account(user, auth.Proof{})
	if err != nil {
		return nil, err
	}
	c := as.on(at.Dial)
	c.Database = at.DatabaseOf(database)
	conn, err := backend.Dial(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("read settings of the %s: %w", at.Name, err)
	}
	defer Terminate(conn)
	ctx, cancel := context.WithTimeout(ctx, ProbeTimeout)
	defer cancel()
	pins, err := ask.ReadPins(ctx, state.NewLink(conn.Conn, conn.Leftover(), conn.Params), as.Name)
	return pins, pg.Wrap(err, "read settings of the %s", at.Name)
}
