package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

// PreparedError names a prepared transaction of a database. It can be ended on the side that it was
// prepared on alone: after a switch, its COMMIT PREPARED would find nothing.
type PreparedError struct {
	GID, Owner string
	Age        time.Duration // by the server's clock
	More       int           // others that are prepared too
}

func (e *PreparedError) Error() string {
	also := ""
	if e.More > 0 {
		also = fmt.Sprintf(" (and %d more)", e.More)
	}
	return fmt.Sprintf("transaction %s, prepared by %s %s ago%s, can be ended on this side only: COMMIT PREPARED or ROLLBACK PREPARED it first",
		pg.QuoteLiteral(e.GID), e.Owner, e.Age.Truncate(time.Second), also)
}

// RefusePrepared returns a *PreparedError with the oldest prepared transaction of this
// database, nil when there is none.
func RefusePrepared(ctx context.Context, conn *pgx.Conn) error {
	return refusePrepared(ctx, conn, nil)
}

// refusePrepared is RefusePrepared, of those that were prepared no later than before where
// that is given.
func refusePrepared(ctx context.Context, conn *pgx.Conn, before *time.Time) error {
	var e PreparedError
	var seconds float64
	err := conn.QueryRow(ctx, `SELECT x.gid, x.owner::text, extract(epoch FROM pg_catalog.clock_timestamp() - x.prepared)::float8,
			(pg_catalog.count(*) OVER ())::int4 - 1
		FROM pg_catalog.pg_prepared_xacts x
		WHERE x.database = pg_catalog.current_database() AND ($1::timestamptz IS NULL OR x.prepared <= $1)
		ORDER BY x.prepared LIMIT 1`, before).Scan(&e.GID, &e.Owner, &seconds, &e.More)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look for prepared transactions: %w", err)
	}
	e.Age = time.Duration(seconds * float64(time.Second))
	return &e
}

// preparedPoll is how often it is checked whether a prepared transaction has ended.
const preparedPoll = 20 * time.Millisecond

// AwaitPrepared waits for the prepared transactions of this database that are there now:
// an application that uses two phases has some at every moment, and ends each within a
// moment. A *PreparedError names one that is older than patience, or becomes so.
func AwaitPrepared(ctx context.Context, conn *pgx.Conn, patience time.Duration) error {
	var now time.Time
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.clock_timestamp()`).Scan(&now); err != nil {
		return fmt.Errorf("look for prepared transactions: %w", err)
	}
	var err error
	for range retry.Poll(ctx, preparedPoll) {
		err = refusePrepared(ctx, conn, &now)
		var there *PreparedError
		if !errors.As(err, &there) || there.Age >= patience {
			return err
		}
	}
	return errors.Join(err, ctx.Err())
}
