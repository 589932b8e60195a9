package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"crossfade/internal/retry"
	"crossfade/proxy/backend"
	"crossfade/proxy/wire"
)

// terminate says good-bye to a server and closes the connection.
func terminate(conn *backend.Conn) {
	_ = conn.SetDeadline(time.Now().Add(goodbyeTimeout))
	_, _ = conn.Write(wire.AppendTerminate(nil))
	_ = conn.Close()
}

// roles returns the translation of names of roles from the side where the session
// is logged in as here to the one where it is logged in as there.
func roles(here, there string, to *Endpoint) func(string) string {
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

// pins returns the settings that sessions of this side get at start-up.
func (e *Endpoint) pins(ctx context.Context, user, database string) ([]wire.Param, error) {
	if e.Pins == nil {
		return nil, nil
	}
	pins, err := e.Pins(ctx, user, database)
	if err != nil {
		return nil, fmt.Errorf("read the settings to pin at the %s: %w", e.Name, err)
	}
	return pins, nil
}

// dial makes a server connection. Where the server itself says that it will be there in a moment, which Neon's proxy
// does in words of its own, it is asked again for a while.
//
// On the other side than the clients' own a server whose number clients know as another's is put back for one more.
func (p *Proxy) dial(ctx context.Context, to *Endpoint, as account, database string, params []wire.Param) (*backend.Conn, error) {
	conn, err := p.dialAny(ctx, to, as, database, params)
	for try := 0; err == nil && to.Name == Target && try < maxMisleading && p.misleads(conn.PID); try++ {
		other, again := p.dialAny(ctx, to, as, database, params)
		terminate(conn) // behind it, lest it be the same again
		conn, err = other, again
	}
	return conn, err
}

// maxMisleading bounds how often another server is asked for.
const maxMisleading = 3

func (p *Proxy) dialAny(ctx context.Context, to *Endpoint, as account, database string, params []wire.Param) (conn *backend.Conn, err error) {
	c := as.on(to.Dial)
	c.Database, c.Params = database, params
	err = retry.Do(ctx, dialPolicy, func(ctx context.Context) error {
		conn, err = p.dialOnce(ctx, c)
		var said *wire.ServerError
		if class := backend.Classify(err); errors.As(err, &said) && (class == backend.Retry || class == backend.BackOff) {
			return err
		}
		return retry.Permanent(err)
	})
	return conn, err
}

// dialPolicy bounds how long a login goes on with a server that says "in a moment". It holds a lease meanwhile, so a
// pause that begins then waits for it, or gives up and is tried again.
var dialPolicy = retry.Policy{Initial: 200 * time.Millisecond, Max: time.Second, MaxElapsed: 5 * time.Second}

// dialOnce makes one try; at most MaxDials are made at once.
func (p *Proxy) dialOnce(ctx context.Context, c backend.Config) (*backend.Conn, error) {
	select {
	case p.dials <- struct{}{}:
		defer func() { <-p.dials }()
	case <-ctx.Done():
		return nil, errors.Join(errors.New("wait for other logins"), ctx.Err())
	}
	return backend.Dial(ctx, c)
}
