package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
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
		return err
	}
	return led
}

// Leader returns which other session holds the leader's lock of the database, nil where none does.
func Leader(ctx context.Context, q Querier) (*LedError, error) {
	led, err := leader(ctx, q)
	if err != nil || led.PID == 0 {
		return nil, err
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
	return &led, pg.Wrap(err, "ask who has the leader's lock")
}

// Sessions of ours say in application_name which start of the program they belong to
// (Tag), so that the next start knows those of the one before it.

// openTag is used in place of the run while that is not known.
const openTag = "start"

// Tag is what sessions of a start carry in application_name, in parentheses after what they do:
// the run, or "" while that is not known, and the incarnation of the program.
func Tag(run, incarnation string) string {
	if run == "" {
		return openTag + " " + incarnation
	}
	return "run " + run + " " + incarnation
}

// LeadName begins what the session that holds the leader's lock does; it does nothing else.
const LeadName = "lead"

// Predecessor is a session of an earlier start of a run.
type Predecessor struct {
	PID         int32
	Application string
}

// predecessorPoll is how often it is checked whether such a session has ended. PostgreSQL has no
// event for it.
const predecessorPoll = 20 * time.Millisecond

// EndPredecessors ends the sessions in this database that an earlier start of the run has left, and
// returns how many there were once they are gone: what such a session has committed is there then,
// and nothing of it comes later. incarnation is that of this start, which leads the run; sessions
// that wait for the lead are left alone. starts says that those of starts which did not come to
// know their run are ended too, which only one program makes in a target. It waits at most
// patience.
func EndPredecessors(ctx context.Context, conn *pgx.Conn, run, incarnation string, starts bool, patience time.Duration) (int, error) {
	ended, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var left []Predecessor
	most := 0
	for range retry.Poll(ended, predecessorPoll) {
		var err error
		if left, err = endEach(ctx, conn, run, incarnation, starts); err != nil { // not in ended, which would break the session
			return most, fmt.Errorf("end the sessions of an earlier start: %w", err)
		}
		if most = max(most, len(left)); len(left) == 0 {
			return most, nil
		}
	}
	return most, &PredecessorError{Sessions: left, After: patience}
}

// endEach asks each of them to end, and returns them.
func endEach(ctx context.Context, conn *pgx.Conn, run, incarnation string, starts bool) ([]Predecessor, error) {
	// A session that may not be ended is named, and not an error: its role is not ours, so that
	// nothing is tried.
	return pg.Select(ctx, conn, func(p *Predecessor) []any {
		return []any{&p.PID, &p.Application, new(*bool)}
	}, `SELECT a.pid, a.application_name,
			CASE WHEN pg_catalog.pg_has_role(a.usesysid, 'USAGE') THEN pg_catalog.pg_terminate_backend(a.pid) END
		FROM pg_catalog.pg_stat_activity a
		WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
		  AND a.application_name LIKE 'crossfade %(%' AND a.application_name NOT LIKE $1
		  AND (a.application_name LIKE $2 AND $5 OR a.application_name LIKE $3) AND a.application_name NOT LIKE $4
		ORDER BY a.pid`,
		"crossfade "+LeadName+" %", "%("+openTag+" %", "%(run "+like(run)+" %", "% "+like(incarnation)+"%", starts)
}

// like writes a text for a pattern of LIKE that means only itself.
func like(s string) string { return strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(s) }

// PredecessorError says which sessions of an earlier start do not end.
type PredecessorError struct {
	Sessions []Predecessor
	After    time.Duration
}

func (e *PredecessorError) Error() string {
	p := e.Sessions[0]
	return fmt.Sprintf("%d sessions of an earlier start of this run have not ended within %v, such as server process %d (%s): wait, or end it with SELECT pg_terminate_backend(%d)",
		len(e.Sessions), e.After, p.PID, p.Application, p.PID)
}

// RegisterBackends records that these server processes belong to an incarnation of the proxy, and
// forgets processes that have ended. No processes is a list like any other.
func RegisterBackends(ctx context.Context, conn *pgx.Conn, incarnation string, pids []int32) error {
	_, err := conn.Exec(ctx, `WITH gone AS (
			DELETE FROM crossfade.backend b WHERE NOT EXISTS (
				SELECT FROM pg_catalog.pg_stat_activity a WHERE a.pid = b.pid AND a.backend_start = b.backend_start)
			AND b.pid <> ALL (coalesce($1::pg_catalog.int4[], '{}')))
		INSERT INTO crossfade.backend (pid, backend_start, incarnation)
		SELECT a.pid, a.backend_start, $2 FROM pg_catalog.pg_stat_activity a WHERE a.pid = ANY ($1::pg_catalog.int4[]) AND a.backend_start IS NOT NULL
		ON CONFLICT (pid) DO UPDATE SET backend_start = EXCLUDED.backend_start, incarnation = EXCLUDED.incarnation`, pids, incarnation)
	return pg.Wrap(err, "register server connections")
}

// Writer is one session of a database, as the census saw it.
type Writer struct {
	PID                             int32
	User, Application, Address, Age string
}

// OtherIncarnations lists the live server connections of other incarnations (C23).
func OtherIncarnations(ctx context.Context, conn *pgx.Conn, incarnation string) ([]int32, error) {
	pids, err := pg.Rows(ctx, conn, pgx.RowTo[int32], `SELECT b.pid FROM crossfade.backend b
		JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid AND a.backend_start = b.backend_start
		WHERE b.incarnation <> $1`, incarnation)
	return pids, pg.Wrap(err, "look for server connections of other incarnations")
}

// Expel terminates the server connections of other incarnations and returns how many it met.
func Expel(ctx context.Context, conn *pgx.Conn, incarnation string) (int, error) {
	pids, err := OtherIncarnations(ctx, conn, incarnation)
	if err != nil || len(pids) == 0 {
		return 0, err
	}
	_, err = conn.Exec(ctx, `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.unnest($1::integer[]) pid`, pids)
	return len(pids), pg.Wrap(err, "terminate server connections of other incarnations")
}

// Census lists the client sessions of this database that are neither ours nor of this incarnation's
// proxy: writers that bypass us. proxied are the processes of the proxy's server connections, and
// may be none. Where our role may not see what kind of session another role's is, it counts as a
// client's: a census that leaves it out would be blind to those that it is made for.
func Census(ctx context.Context, conn *pgx.Conn, proxied []int32) ([]Writer, error) {
	writers, err := pg.Rows(ctx, conn, pgx.RowToStructByPos[Writer], `SELECT a.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''),
			coalesce(a.client_addr::text, 'local'), coalesce((pg_catalog.clock_timestamp() - a.backend_start)::text, '')
		FROM pg_catalog.pg_stat_activity a
		WHERE a.datname = pg_catalog.current_database() AND coalesce(a.backend_type, 'client backend') = 'client backend' AND a.usesysid IS NOT NULL
		  AND a.pid <> pg_catalog.pg_backend_pid() AND a.pid <> ALL (coalesce($1::pg_catalog.int4[], '{}'))
		  AND coalesce(a.application_name, '') NOT LIKE 'crossfade%'
		ORDER BY a.pid`, proxied)
	return writers, pg.Wrap(err, "take the census of sessions")
}
