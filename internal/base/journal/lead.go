package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// leadKey is the advisory lock by which one process leads the runs of a database: "xfade" in ASCII.
const leadKey = 0x7866616465

// ErrLed says that another session holds the leader's lock; the error that wraps it is a
// *LedError.
var ErrLed = errors.New("another Crossfade process works on this database")

// LedError says which session holds the leader's lock.
type LedError struct {
	PID         int32  // of the server's process; 0 if the session ended before it was found
	User        string // "" for each of the following where the role may not see it
	Application string
	Address     string        // of the client; "" for a Unix socket too
	Age         time.Duration // of the session, in whole seconds
}

func (e *LedError) Error() string {
	return ErrLed.Error() + ": " + e.Who() + ": stop it first, or wait until its session has ended"
}

// Unwrap returns ErrLed.
func (e *LedError) Unwrap() error { return ErrLed }

// Who describes the session.
func (e *LedError) Who() string {
	if e.PID == 0 {
		return "its session has just ended"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "server process %d", e.PID)
	for _, part := range []struct{ before, text, after string }{{" (", e.Application, ")"}, {" of role ", e.User, ""}, {" from ", e.Address, ""}} {
		if part.text != "" {
			b.WriteString(part.before + part.text + part.after)
		}
	}
	fmt.Fprintf(&b, ", connected for %v", e.Age)
	return b.String()
}

// Lead takes the advisory lock that keeps two Crossfade processes from acting
// on one database. It is held as long as conn lives. It only avoids trouble:
// safety rests on the compare-and-sets. The error is a *LedError where another session has it.
func Lead(ctx context.Context, conn *pgx.Conn) error {
	var ok bool
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_try_advisory_lock($1)`, int64(leadKey)).Scan(&ok); err != nil {
		return fmt.Errorf("ask for the leader's lock: %w", err)
	}
	if ok {
		return nil
	}
	led, err := leader(ctx, conn)
	if err != nil {
		return fmt.Errorf("ask who has the leader's lock: %w", err)
	}
	return led
}

// Leader returns which other session holds the leader's lock of the database, nil where none does.
func Leader(ctx context.Context, q Querier) (*LedError, error) {
	led, err := leader(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("ask who has the leader's lock: %w", err)
	}
	if led.PID == 0 {
		return nil, nil
	}
	return led, nil
}

// leader reads who holds the lock. A lock with a key of 64 bits is shown in two halves
// (PostgreSQL documentation 54.12).
func leader(ctx context.Context, q Querier) (*LedError, error) {
	var led LedError
	var seconds int64
	err := q.QueryRow(ctx, `SELECT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(pg_catalog.host(a.client_addr), ''),
			coalesce(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - a.backend_start), 0)::bigint
		FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
		  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
		  AND l.classid = $1::bigint::oid AND l.objid = $2::bigint::oid LIMIT 1`, int64(leadKey)>>32, int64(leadKey)&0xffffffff).
		Scan(&led.PID, &led.User, &led.Application, &led.Address, &seconds)
	if errors.Is(err, pgx.ErrNoRows) {
		return &LedError{}, nil
	}
	led.Age = time.Duration(seconds) * time.Second
	return &led, err
}
