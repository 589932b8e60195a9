package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"crossfade/proxy/auth"
	"crossfade/proxy/auth/scram"
	"crossfade/proxy/backend"
	"crossfade/proxy/session"
	"crossfade/proxy/wire"
)

// What a move must know of a database itself is asked beside the sessions, on a connection
// of its own that lasts as long as the question.

// callers are those on whose behalf a database may be asked what any of them may ask:
// first the one of the configuration, whose connections no pool of an application uses
// up, then the sessions' roles, each once.
func (p *Proxy) callers(database string, list []*relay) []caller {
	var some []caller
	for _, r := range list {
		if r.database == database {
			some = append(some, r.caller())
		}
	}
	return p.callersWith(some...)
}

// callersWith are those of one database.
func (p *Proxy) callersWith(some ...caller) []caller {
	var out []caller
	if p.cfg.User != "" && (len(some) == 0 || some[0].database == p.cfg.Database) {
		out = append(out, caller{user: p.cfg.User, database: p.cfg.Database})
	}
	for _, who := range some {
		if !slices.ContainsFunc(out, func(c caller) bool { return c.user == who.user }) {
			out = append(out, who)
		}
	}
	return out
}

// dialAmong makes a server connection on behalf of the first of the callers that the server
// lets in. One whose connections are used up, or that may not connect any more, is no
// reason to ask nobody.
func (p *Proxy) dialAmong(ctx context.Context, at *Endpoint, database string, callers []caller) (*backend.Conn, error) {
	var refused []error
	for _, who := range callers {
		as, err := at.account(who.user, who.proof)
		if err == nil {
			var conn *backend.Conn
			if conn, err = p.dial(ctx, at, as, at.database(database), nil); err == nil {
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
	var said *wire.ServerError
	var unknown *CredentialsError
	if errors.As(err, &unknown) || errors.Is(err, backend.ErrNoPassword) || errors.Is(err, scram.ErrOtherVerifier) {
		return true
	}
	return errors.As(err, &said) && backend.Classify(err) != backend.Retry && backend.Classify(err) != backend.BackOff
}

// besideAmong runs do on a connection of its own to the active side, on behalf of the first
// of the callers that is let in.
func (p *Proxy) besideAmong(ctx context.Context, database string, callers []caller, do func(context.Context, *session.Link) error) error {
	at, err := p.cfg.endpoint(p.router.Current().Endpoint)
	if err != nil {
		return err
	}
	return p.askAmong(ctx, at, database, callers, do)
}

// askAmong is besideAmong for either side.
func (p *Proxy) askAmong(ctx context.Context, at *Endpoint, database string, callers []caller, do func(context.Context, *session.Link) error) error {
	conn, err := p.dialAmong(ctx, at, database, callers)
	if err != nil {
		return err
	}
	defer terminate(conn)
	ctx, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	return do(ctx, session.NewLink(conn.Conn, conn.Leftover(), conn.Params))
}

// beside is besideAmong for what a session's own role may ask before any other.
func (p *Proxy) beside(ctx context.Context, r *relay, do func(context.Context, *session.Link) error) error {
	who := []caller{r.caller()}
	for _, other := range p.callersWith(r.caller()) {
		if other.user != r.user {
			who = append(who, other)
		}
	}
	return p.besideAmong(ctx, r.database, who, do)
}

// caller is a client, as either side needs it for a connection on its behalf.
type caller struct {
	user, database string
	proof          auth.Proof
}

func (r *relay) caller() caller { return caller{r.user, r.database, r.proof} }
