package side

import (
	"context"
	"fmt"

	"crossfade/proxy/ask"
	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

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
	if err != nil {
		return nil, fmt.Errorf("read settings of the %s: %w", at.Name, err)
	}
	return pins, nil
}
