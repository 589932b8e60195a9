package side

import (
	"context"
	"errors"
	"time"

	"crossfade/internal/base/retry"
	"crossfade/proxy/backend"
	"crossfade/proxy/wire"
)

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
		var said *wire.ServerError
		if class := backend.Classify(err); errors.As(err, &said) && (class == backend.Retry || class == backend.BackOff) {
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
