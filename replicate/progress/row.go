package progress

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/pg"
)

var (
	// ErrFenced says that another follower has claimed the lane.
	ErrFenced = errors.New("another follower has taken the lane over")
	// ErrClosed says that the lane was closed by the decision.
	ErrClosed = errors.New("the lane is closed: the decision was made")
	// ErrMoved says that the row holds another position than expected, though
	// its owner is the same: an earlier commit went through after all.
	ErrMoved = errors.New("the lane's position is another than expected")
	// ErrNoLane says that there is no row for the lane.
	ErrNoLane = errors.New("the lane has no progress row")
)

// Querier is a connection or a transaction on the target.
type Querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Row is a lane's progress.
type Row struct {
	Lane       int32
	Owner      int64     // number of the claim; grows with each
	EndLSN     pg.LSN    // everything on the source up to here is applied
	CommitTime time.Time // of the last transaction applied, by the source's clock; zero if unknown
	Open       bool
}

const columns = `lane, owner, end_lsn::text, commit_ts, open`

// Read returns the lane's row, or ErrNoLane.
func Read(ctx context.Context, q Querier, lane int32) (Row, error) {
	return scan(q.QueryRow(ctx, `SELECT `+columns+` FROM crossfade.progress WHERE lane = $1`, lane), "read progress")
}

// ReadLocked is Read after every transaction that is at work with the row has
// ended. It waits for these as long as ctx lets it.
func ReadLocked(ctx context.Context, q Querier, lane int32) (Row, error) {
	return scan(q.QueryRow(ctx, `SELECT `+columns+` FROM crossfade.progress WHERE lane = $1 FOR UPDATE`, lane), "read progress")
}

// Claim takes the lane over and returns its row. A lane without a row begins at start, which must
// be the slot's consistent point. The claim is durable when Claim returns only if the session
// commits synchronously. It returns ErrClosed for a closed lane.
func Claim(ctx context.Context, q Querier, lane int32, start pg.LSN) (Row, error) {
	row, err := scan(q.QueryRow(ctx, `
		INSERT INTO crossfade.progress AS p (lane, owner, end_lsn) VALUES ($1, 1, $2::pg_catalog.pg_lsn)
		ON CONFLICT (lane) DO UPDATE SET owner = p.owner + 1 WHERE p.open
		RETURNING `+columns, lane, start.String()), "claim lane")
	if errors.Is(err, ErrNoLane) {
		return Row{}, fmt.Errorf("claim lane: %w", ErrClosed)
	}
	return row, err
}

func scan(row pgx.Row, what string) (Row, error) {
	var r Row
	var lsn string
	var ts *time.Time
	err := row.Scan(&r.Lane, &r.Owner, &lsn, &ts, &r.Open)
	if errors.Is(err, pgx.ErrNoRows) {
		return Row{}, fmt.Errorf("%s: %w", what, ErrNoLane)
	}
	if err != nil {
		return Row{}, fmt.Errorf("%s: %w", what, err)
	}
	if r.EndLSN, err = pg.ParseLSN(lsn); err != nil {
		return Row{}, fmt.Errorf("%s: %w", what, err)
	}
	if ts != nil {
		r.CommitTime = *ts
	}
	return r, nil
}
