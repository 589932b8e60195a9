package journal

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// Kinds of what a Round compares.
const (
	KindTable      = "table"
	KindSequence   = "sequence"
	KindDefinition = "definition"
)

// Round is one comparison of both sides while one follows the other.
type Round struct {
	Number    int64
	Direction string    // as in the source's run row
	Begun     time.Time // by the server's clock
	Ended     time.Time // zero for one that was not completed
	Verdict   string    // of one that was
	Tables    int       // how many were compared, of one that was completed
	Sequences int
}

// Found is what a Round has found of one thing. Of sequences and definitions only what differs is
// kept; Proof.Table is a definition's kind and name.
type Found struct {
	Kind string
	Proof
}

// LastRound reads the newest round of a direction, or the newest that was completed, and what it has
// found; nil for none. Of a round that another one has followed, what was equal is not known any more.
func LastRound(ctx context.Context, conn *pgx.Conn, direction string, completed bool) (*Round, []Found, error) {
	r := Round{Direction: direction}
	var ended *time.Time
	err := conn.QueryRow(ctx, `SELECT round, begun_at, ended_at, verdict, tables, sequences FROM crossfade.verification
		WHERE direction = $1 AND (ended_at IS NOT NULL OR NOT $2) ORDER BY round DESC LIMIT 1`, direction, completed).Scan(&r.Number, &r.Begun, &ended, &r.Verdict, &r.Tables, &r.Sequences)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil, nil
	case err != nil:
		return nil, nil, pg.Wrap(err, "read the last comparison")
	case ended != nil:
		r.Ended = *ended
	}
	all, err := pg.Select(ctx, conn, func(f *Found) []any {
		return []any{&f.Kind, &f.Table.Schema, &f.Table.Name, &f.Verdict, &f.Reason, &f.SourceRows, &f.TargetRows, &f.Keys}
	}, `SELECT kind, nsp, rel, verdict, reason, from_rows, to_rows, keys FROM crossfade.verified WHERE round = $1 ORDER BY kind, nsp, rel`, r.Number)
	return &r, all, pg.Wrap(err, "read what the last comparison has found")
}

// BeginRound begins a round. What earlier rounds have found equal is summed up in their verdicts,
// and its rows are removed.
func BeginRound(ctx context.Context, conn *pgx.Conn, direction string) (Round, error) {
	r := Round{Direction: direction}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM crossfade.verified WHERE verdict = 'equal'`); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `INSERT INTO crossfade.verification (round, direction)
			SELECT coalesce(pg_catalog.max(round), 0) + 1, $1 FROM crossfade.verification RETURNING round, begun_at`, direction).Scan(&r.Number, &r.Begun)
	})
	return r, pg.Wrap(err, "record that a comparison begins")
}

// SaveFound records what a round has found, in place of what it had found before of the same.
func SaveFound(ctx context.Context, conn *pgx.Conn, round int64, found []Found) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, f := range found {
			if _, err := tx.Exec(ctx, `INSERT INTO crossfade.verified (round, kind, nsp, rel, verdict, reason, from_rows, to_rows, keys)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
				ON CONFLICT (round, kind, nsp, rel) DO UPDATE SET verdict = excluded.verdict, reason = excluded.reason,
					from_rows = excluded.from_rows, to_rows = excluded.to_rows, keys = excluded.keys, found_at = excluded.found_at`,
				round, f.Kind, f.Table.Schema, f.Table.Name, f.Verdict, f.Reason, f.SourceRows, f.TargetRows, lists.NotNil(f.Keys)); err != nil {
				return err
			}
		}
		return nil
	})
	return pg.Wrap(err, "record what was compared")
}

// EndRound records the verdict of a round whose tables, sequences and definitions have all been compared,
// with what it has found of the latter two, and sets its Ended.
func EndRound(ctx context.Context, conn *pgx.Conn, r *Round, rest []Found) error {
	if err := SaveFound(ctx, conn, r.Number, rest); err != nil {
		return err
	}
	err := conn.QueryRow(ctx, `UPDATE crossfade.verification SET ended_at = pg_catalog.clock_timestamp(), verdict = $2, tables = $3, sequences = $4
		WHERE round = $1 RETURNING ended_at`, r.Number, r.Verdict, r.Tables, r.Sequences).Scan(&r.Ended)
	return pg.Wrap(err, "record the end of a comparison")
}
