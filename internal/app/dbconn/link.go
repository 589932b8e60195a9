package dbconn

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

// Link is one session to a database that is opened when it is needed and
// opened again after it was lost. Its users take turns.
type Link struct {
	dsn  pg.DSN
	opts []pg.Option

	turn chan struct{} // holds one token: the right to use conn
	once sync.Once
	conn *pgx.Conn
	used time.Time // when conn was last known to live

	asked *pgx.Conn // the session whose server process has this pid
	pid   int32
}

// freshFor is how long after its last use a session counts as alive: longer than
// the time between two calls within a pause, which need no more round trips, and
// shorter than the time that a server takes to restart unseen.
const freshFor = time.Second

// CloseTimeout bounds the good-bye to a server that may be gone.
const CloseTimeout = 2 * time.Second

// New returns a link to a database, which is opened when it is first used.
func New(dsn pg.DSN, opts ...pg.Option) *Link {
	l := &Link{dsn: dsn, opts: opts, turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	return l
}

// Do runs f with the session. A session that was idle, or on whose socket something has arrived
// meanwhile, is tested first, so that the first call after a restart of the server or a cut does
// not fail. A session on which f lost the connection, or in whose transaction it failed, is closed,
// so that the next caller gets a working one.
func (l *Link) Do(ctx context.Context, f func(ctx context.Context, conn *pgx.Conn) error) error {
	select {
	case <-l.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { l.turn <- struct{}{} }()
	if l.conn != nil && !l.conn.IsClosed() && (time.Since(l.used) > freshFor || !pg.Quiet(l.conn.PgConn().Conn())) && l.conn.Ping(ctx) != nil {
		CloseNow(l.conn)
		l.conn = nil
	}
	if l.conn == nil || l.conn.IsClosed() {
		conn, err := pg.Connect(ctx, l.dsn, l.opts...)
		if err != nil {
			return err
		}
		l.conn = conn
	}
	err := f(ctx, l.conn)
	l.used = time.Now()
	if err != nil && (pg.ConnectionLost(err) || l.conn.IsClosed() || l.conn.PgConn().TxStatus() != 'I') {
		CloseNow(l.conn)
		l.conn = nil
	}
	return err
}

// Close ends the session once it is no longer used.
func (l *Link) Close() {
	l.once.Do(func() {
		<-l.turn
		CloseNow(l.conn)
		l.conn = nil
		l.turn <- struct{}{}
	})
}

// CloseNow ends a session, if there is one, within a bound, even when the caller's context is over.
func CloseNow(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), CloseTimeout)
	defer cancel()
	_ = conn.Close(ctx) // the socket is closed in any case
}

// openPatience is how long a beginning waits for a database that had let it in
// and went away: longer than a compute needs to wake, or a server to restart.
const openPatience = time.Minute

// WhileAway repeats a start that a database interrupted after it had accepted the login: it
// restarts, or its compute was suspended. An error before that, such as an address where no server
// listens, ends the start at once.
func WhileAway(ctx context.Context, log zerolog.Logger, begin func(ctx context.Context, letIn func()) error) error {
	in := false
	policy := retry.Policy{MaxElapsed: openPatience, OnRetry: obs.Retrying(log, "a database went away in the beginning; it begins again")}
	return retry.Do(ctx, policy, func(ctx context.Context) error {
		err := begin(ctx, func() { in = true })
		if err != nil && (!in || !pg.ConnectionLost(err)) {
			return retry.Permanent(err)
		}
		return err
	})
}

// IsNeon reports whether a database says of itself that it is on Neon.
func IsNeon(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var endpoint string
	err := conn.QueryRow(ctx, `SELECT coalesce(pg_catalog.current_setting('neon.endpoint_id', true), '')`).Scan(&endpoint)
	return endpoint != "", pg.Wrap(err, "ask whether the target is on Neon")
}

// Both opens a session to each side. The caller ends them with end.
func Both(ctx context.Context, source, target pg.DSN, name string) (s, t *pgx.Conn, end func(), err error) {
	if s, err = pg.Connect(ctx, source, pg.WithName(name)); err != nil {
		return nil, nil, nil, fmt.Errorf("source: %w", err)
	}
	if t, err = pg.Connect(ctx, target, pg.WithName(name)); err != nil {
		CloseNow(s)
		return nil, nil, nil, fmt.Errorf("target: %w", err)
	}
	return s, t, func() {
		CloseNow(t)
		CloseNow(s)
	}, nil
}

// Ask2 is Ask with the sessions of two links, for what gives a list and a number.
func Ask2[T any](ctx context.Context, from, to *Link, f func(ctx context.Context, from, to *pgx.Conn) ([]T, int, error)) (list []T, n int, err error) {
	err = from.Do(ctx, func(ctx context.Context, a *pgx.Conn) error {
		return to.Do(ctx, func(ctx context.Context, b *pgx.Conn) (err error) {
			list, n, err = f(ctx, a, b)
			return err
		})
	})
	return list, n, err
}

// Ask returns what f finds out with the session of a link.
func Ask[T any](ctx context.Context, l *Link, f func(ctx context.Context, conn *pgx.Conn) (T, error)) (found T, err error) {
	err = l.Do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		found, err = f(ctx, conn)
		return err
	})
	return found, err
}
