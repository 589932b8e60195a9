package side

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/proxy/ask"
	"crossfade/proxy/auth"
	"crossfade/proxy/auth/scram"
	"crossfade/proxy/backend"
	"crossfade/proxy/state"
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// Questions that a move has about a database itself are asked outside the sessions, on a connection
// that lasts as long as the question.

// Callers are the logins that may be used for a question that any of them may ask: first the one of
// the configuration, whose connections no application's pool uses up, then those of the list that
// belong to this database, each role once.
func (s *Sides) Callers(database string, list []Caller) []Caller {
	return s.CallersWith(slices.DeleteFunc(slices.Clone(list), func(c Caller) bool { return c.Database != database })...)
}

// CallersWith are the callers of one database.
func (s *Sides) CallersWith(some ...Caller) []Caller {
	var out []Caller
	if s.User != "" && (len(some) == 0 || some[0].Database == s.Database) {
		out = append(out, Caller{User: s.User, Database: s.Database})
	}
	for _, who := range some {
		if !slices.ContainsFunc(out, func(c Caller) bool { return c.User == who.User }) {
			out = append(out, who)
		}
	}
	return out
}

// DialAmong makes a server connection as the first caller that the server accepts. A caller whose
// connections are used up, or that may no longer connect, is skipped.
func (s *Sides) DialAmong(ctx context.Context, at *Endpoint, database string, callers []Caller) (*backend.Conn, error) {
	var refused []error
	for _, who := range callers {
		as, err := at.Account(who.User, who.Proof)
		if err == nil {
			var conn *backend.Conn
			if conn, err = s.Dial(ctx, at, as, at.DatabaseOf(database), nil); err == nil {
				return conn, nil
			}
		}
		refused = append(refused, err)
		if !personal(err) {
			break
		}
	}
	if len(refused) == 0 {
		return nil, fmt.Errorf("no role is known that may ask database %q of the %s", database, at.Name)
	}
	return nil, fmt.Errorf("one connection more is needed at the %s, and no role gets it: %w", at.Name, errors.Join(refused...))
}

// personal reports whether a login was refused to a role, so that another one may be let in.
func personal(err error) bool {
	if errors.As(err, new(*CredentialsError)) || errors.Is(err, backend.ErrNoPassword) || errors.Is(err, scram.ErrOtherVerifier) {
		return true
	}
	return errors.As(err, new(*wire.ServerError)) && backend.Classify(err) != backend.Retry && backend.Classify(err) != backend.BackOff
}

// WithSideConnAmong runs do on a connection of its own to the active side, on behalf of the first
// of the callers that is let in.
func (s *Sides) WithSideConnAmong(ctx context.Context, database string, callers []Caller, do func(context.Context, *state.Link) error) error {
	at, err := s.Endpoint(s.Router.Current().Endpoint)
	if err != nil {
		return err
	}
	return s.AskAmong(ctx, at, database, callers, do)
}

// AskAmong is WithSideConnAmong for either side.
func (s *Sides) AskAmong(ctx context.Context, at *Endpoint, database string, callers []Caller, do func(context.Context, *state.Link) error) error {
	conn, err := s.DialAmong(ctx, at, database, callers)
	if err != nil {
		return err
	}
	defer Terminate(conn)
	ctx, cancel := context.WithTimeout(ctx, ReplayTimeout)
	defer cancel()
	return do(ctx, state.NewLink(conn.Conn, conn.Leftover(), conn.Params))
}

// WithSideConn is WithSideConnAmong for what a session's own role may ask before any other.
func (s *Sides) WithSideConn(ctx context.Context, own Caller, do func(context.Context, *state.Link) error) error {
	others := lists.Filter(s.CallersWith(own), func(c Caller) bool { return c.User != own.User })
	return s.WithSideConnAmong(ctx, own.Database, append([]Caller{own}, others...), do)
}

// Caller is a client, as either side needs it for a connection on its behalf.
type Caller struct {
	User, Database string
	Proof          auth.Proof
}

// TypeStore keeps the numbers of types that clients know, which are the source's,
// beyond the life of the proxy and of the source. database is the client's name for
// it. Its methods are called concurrently.
type TypeStore interface {
	LoadTypes(ctx context.Context, database string) ([]typemap.Type, error)
	KeepTypes(ctx context.Context, database string, types []typemap.Type) error
}

// discardTypes is the TypeStore of a proxy that has no other: it keeps nothing.
type discardTypes struct{}

func (discardTypes) LoadTypes(context.Context, string) ([]typemap.Type, error) { return nil, nil }
func (discardTypes) KeepTypes(context.Context, string, []typemap.Type) error   { return nil }

// MatchTypes reads the types at the endpoint and remembers how they translate.
func (s *Sides) MatchTypes(ctx context.Context, at *Endpoint, database string, callers []Caller, client []typemap.Type) (*typemap.Map, error) {
	var there []typemap.Type
	err := s.AskAmong(ctx, at, database, callers, func(ctx context.Context, l *state.Link) (err error) {
		there, err = ask.Types(ctx, l)
		return err
	})
	if err != nil {
		return nil, err
	}
	m := typemap.New(client, there)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.types[database] = m
	return m, nil
}

// TypesAt returns how the numbers of types translate between clients of the database
// and servers of the endpoint: nil where they are the same.
func (s *Sides) TypesAt(ctx context.Context, at *Endpoint, who Caller) (*typemap.Map, error) {
	if at.Name == Source {
		return nil, nil
	}
	s.mu.Lock()
	m, known := s.mu.types[who.Database]
	s.mu.Unlock()
	if known {
		return m, nil
	}
	client, err := s.Types.LoadTypes(ctx, who.Database)
	if err == nil && len(client) > 0 {
		m, err = s.MatchTypes(ctx, at, who.Database, s.CallersWith(who), client)
	}
	return m, pg.Wrap(err, "compare the types of database %q", who.Database)
}
