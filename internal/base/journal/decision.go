package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// Decision is what the register says of an epoch.
type Decision string

// The decisions. Undecided is no row.
const (
	Undecided Decision = ""
	Commit    Decision = "commit"
	Abort     Decision = "abort"
)

// ReadDecision reads the register.
func ReadDecision(ctx context.Context, q Querier, epoch int64) (Decision, error) {
	var d string
	err := q.QueryRow(ctx, `SELECT decision FROM crossfade.decision WHERE epoch = $1`, epoch).Scan(&d)
	if errors.Is(err, pgx.ErrNoRows) {
		return Undecided, nil
	}
	if err != nil {
		return Undecided, fmt.Errorf("read the decision of epoch %d: %w", epoch, err)
	}
	return Decision(d), nil
}

// LastCommit returns the newest epoch that was decided with commit, 0 for none.
func LastCommit(ctx context.Context, q Querier) (int64, error) {
	var epoch int64
	err := q.QueryRow(ctx, `SELECT coalesce(max(epoch), 0) FROM crossfade.decision WHERE decision = 'commit'`).Scan(&epoch)
	if err != nil {
		return 0, fmt.Errorf("read the decisions: %w", err)
	}
	return epoch, nil
}

// Reject writes 'abort' for the epoch unless it is decided already, and returns what the register
// says then. A decision in flight makes the insert wait, and the primary key decides.
func Reject(ctx context.Context, conn *pgx.Conn, epoch int64) (Decision, error) {
	_, err := conn.Exec(ctx, `INSERT INTO crossfade.decision (epoch, decision) VALUES ($1, 'abort') ON CONFLICT (epoch) DO NOTHING`, epoch)
	if err != nil && !pg.IsCode(err, pg.CodeUniqueViolation) {
		return Undecided, fmt.Errorf("reject epoch %d: %w", epoch, err)
	}
	return ReadDecision(ctx, conn, epoch)
}
