package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// dial makes a server connection; at most MaxDials are made at once.
func (p *Proxy) dial(ctx context.Context, to *Endpoint, user, password, database string, params []wire.Param) (*backend.Conn, error) {
	select {
	case p.dials <- struct{}{}:
		defer func() { <-p.dials }()
	case <-ctx.Done():
		return nil, errors.Join(errors.New("wait for other logins"), ctx.Err())
	}
	c := to.Dial
	c.User, c.Password, c.Database, c.Params = user, password, database, params
	return backend.Dial(ctx, c)
}
