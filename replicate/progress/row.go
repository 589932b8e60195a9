package progress

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	// Since is the nonce of the marker after which changes are applied: what comes before it, and the
	// marker's own transaction, is left out. "" means that everything after EndLSN is applied.
	Since string
	// SinceLSN is a position before that marker's commit and after all that was committed on the
	// closed side before.
	SinceLSN pg.LSN
}

const columns = `lane, owner, end_lsn::text, commit_ts, open, since, since_lsn::text`

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
	var ts *time.Time
	err := row.Scan(&r.Lane, &r.Owner, &r.EndLSN, &ts, &r.Open, &r.Since, &r.SinceLSN)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoLane
	}
	if err != nil {
		return Row{}, fmt.Errorf("%s: %w", what, err)
	}
	if ts != nil {
		r.CommitTime = *ts
	}
	return r, nil
}

const advance = `UPDATE crossfade.progress
	SET end_lsn = $4::pg_catalog.pg_lsn, commit_ts = coalesce($5::pg_catalog.timestamptz, commit_ts)
	WHERE lane = $1::pg_catalog.int4 AND owner = $2::pg_catalog.int8
	AND end_lsn = $3::pg_catalog.pg_lsn AND end_lsn <= $4::pg_catalog.pg_lsn AND open`

// AdvanceSQL is the compare-and-set as a statement that fails by itself when it finds no row, with
// SQLSTATE 22012 (division by zero), so that what follows it in the same transaction and the same
// pipeline is not executed. Its parameters are AdvanceArgs, in text format.
const AdvanceSQL = `WITH moved AS (` + advance + ` RETURNING 1)
	SELECT 1 / count(*)::pg_catalog.int4 FROM moved`

// AdvanceArgs returns the parameters of AdvanceSQL. A zero committed leaves the
// recorded commit time. With to == from the statement only locks and checks.
func AdvanceArgs(lane int32, owner int64, from, to pg.LSN, committed time.Time) [][]byte {
	var ts []byte
	if !committed.IsZero() {
		ts = committed.UTC().AppendFormat(nil, "2006-01-02 15:04:05.999999Z07:00")
	}
	return [][]byte{
		strconv.AppendInt(nil, int64(lane), 10), strconv.AppendInt(nil, owner, 10),
		[]byte(from.String()), []byte(to.String()), ts,
	}
}

// Advance moves the lane from one position to another within q's transaction. When it finds no row
// to move, the error says why: ErrFenced, ErrClosed, ErrMoved or ErrNoLane.
func Advance(ctx context.Context, q Querier, lane int32, owner int64, from, to pg.LSN, committed time.Time) error {
	var ts *string
	args := AdvanceArgs(lane, owner, from, to, committed)
	if args[4] != nil {
		s := string(args[4])
		ts = &s
	}
	tag, err := q.Exec(ctx, advance, string(args[0]), string(args[1]), string(args[2]), string(args[3]), ts)
	if err != nil {
		return fmt.Errorf("advance lane: %w", err)
	}
	if tag.RowsAffected() == 1 {
		return nil
	}
	return Explain(ctx, q, lane, owner)
}

// Explain says why an advance by owner found no row.
func Explain(ctx context.Context, q Querier, lane int32, owner int64) error {
	row, err := Read(ctx, q, lane)
	switch {
	case err != nil:
		return err
	case row.Owner != owner:
		return fmt.Errorf("advance lane %d as owner %d: owner is %d: %w", lane, owner, row.Owner, ErrFenced)
	case !row.Open:
		return fmt.Errorf("advance lane %d: %w", lane, ErrClosed)
	default:
		return fmt.Errorf("advance lane %d: it is at %s: %w", lane, row.EndLSN, ErrMoved)
	}
}

// Close closes a lane in the caller's transaction, that of the decision, and returns the position
// where the lane ended, which must have reached the one given. It waits for a batch in flight. When
// it has committed no follower can apply anything. The condition is in SET and not in WHERE, since
// only there is it evaluated on the row as the batch in flight leaves it.
func Close(ctx context.Context, q Querier, lane int32, reached pg.LSN) (pg.LSN, error) {
	var end pg.LSN
	var open bool
	err := q.QueryRow(ctx, `UPDATE crossfade.progress SET open = end_lsn < $2::pg_catalog.pg_lsn
	WHERE lane = $1 AND open
	RETURNING end_lsn::text, open`, lane, reached.String()).Scan(&end, &open)
	if errors.Is(err, pgx.ErrNoRows) {
		if _, err = Read(ctx, q, lane); err == nil {
			err = ErrClosed
		}
	}
	if err == nil && open {
		err = fmt.Errorf("it is at %s, short of %s", end, reached)
	}
	return end, pg.Wrap(err, "close lane %d", lane)
}

// Reopen opens a lane that a decision has closed, or begins it, in the caller's transaction: nothing
// is applied before the marker with the nonce since, which was written at a position or later, and
// whoever had claimed the lane has it no longer. A lane without a row begins at start; one that was
// closed is read on from where it ended.
func Reopen(ctx context.Context, q Querier, lane int32, start pg.LSN, since string, at pg.LSN) error {
	_, err := q.Exec(ctx, `INSERT INTO crossfade.progress AS p (lane, owner, end_lsn, since, since_lsn) VALUES ($1, 1, $2::pg_catalog.pg_lsn, $3, $4::pg_catalog.pg_lsn)
		ON CONFLICT (lane) DO UPDATE SET owner = p.owner + 1, open = true, commit_ts = NULL, since = excluded.since, since_lsn = excluded.since_lsn`,
		lane, start.String(), since, at.String())
	return pg.Wrap(err, "open lane %d again", lane)
}

// Arrive records that the marker for which the lane has left out everything was reached, and that
// its transaction ends at a position. The errors are those of Advance.
func Arrive(ctx context.Context, q Querier, lane int32, owner int64, since string, at pg.LSN) error {
	tag, err := q.Exec(ctx, `UPDATE crossfade.progress SET since = '', end_lsn = $4::pg_catalog.pg_lsn
		WHERE lane = $1 AND owner = $2 AND since = $3 AND open`, lane, owner, since, at.String())
	if err != nil {
		return fmt.Errorf("record that the marker of lane %d was reached: %w", lane, err)
	}
	if tag.RowsAffected() == 1 {
		return nil
	}
	return Explain(ctx, q, lane, owner)
}
