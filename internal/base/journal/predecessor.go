package journal

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/retry"
)

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
	rows, _ := conn.Query(ctx, `SELECT a.pid, a.application_name,
			CASE WHEN pg_catalog.pg_has_role(a.usesysid, 'USAGE') THEN pg_catalog.pg_terminate_backend(a.pid) END
		FROM pg_catalog.pg_stat_activity a
		WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
		  AND a.application_name LIKE 'crossfade %(%' AND a.application_name NOT LIKE $1
		  AND (a.application_name LIKE $2 AND $5 OR a.application_name LIKE $3) AND a.application_name NOT LIKE $4
		ORDER BY a.pid`,
		"crossfade "+LeadName+" %", "%("+openTag+" %", "%(run "+like(run)+" %", "% "+like(incarnation)+"%", starts)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Predecessor, error) {
		var p Predecessor
		var asked *bool
		err := row.Scan(&p.PID, &p.Application, &asked)
		return p, err
	})
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
