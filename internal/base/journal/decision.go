package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
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
	d := Undecided
	err := q.QueryRow(ctx, `SELECT decision FROM crossfade.decision WHERE epoch = $1`, epoch).Scan(&d)
	if errors.Is(err, pgx.ErrNoRows) {
		return Undecided, nil
	}
	return d, pg.Wrap(err, "read the decision of epoch %d", epoch)
}

// Opening is a decision that has opened a side.
type Opening struct {
	Epoch int64
	Nonce string // of its marker
	LSN   pg.LSN // before its commit, and after what was committed before the side was closed
}

// LastCommit returns the newest decision that has opened this side, the zero Opening for none.
func LastCommit(ctx context.Context, q Querier) (o Opening, err error) {
	err = q.QueryRow(ctx, `SELECT epoch, nonce, lsn::text FROM crossfade.decision WHERE decision = 'commit' ORDER BY epoch DESC LIMIT 1`).Scan(&o.Epoch, &o.Nonce, &o.LSN)
	if errors.Is(err, pgx.ErrNoRows) {
		return Opening{}, nil
	}
	return o, pg.Wrap(err, "read the decisions")
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

// Proof is what the comparison that follows a switch has found of one table. A Proof
// without a table says that every table of its epoch has been compared.
type Proof struct {
	Table                  pg.Name
	Verdict                string
	Reason                 string // the reason; empty for a table that is equal
	SourceRows, TargetRows int64
	Keys                   []string // some that differ, each with what is wrong with it
}

// SaveProofs records on the target what was found of tables. What was found before of
// the same table is replaced.
func SaveProofs(ctx context.Context, conn *pgx.Conn, epoch int64, proofs []Proof) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, p := range proofs {
			if _, err := tx.Exec(ctx, `INSERT INTO crossfade.proof (epoch, nsp, rel, verdict, reason, source_rows, target_rows, keys)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
				ON CONFLICT (epoch, nsp, rel) DO UPDATE SET verdict = excluded.verdict, reason = excluded.reason,
					source_rows = excluded.source_rows, target_rows = excluded.target_rows, keys = excluded.keys, found_at = excluded.found_at`,
				epoch, p.Table.Schema, p.Table.Name, p.Verdict, p.Reason, p.SourceRows, p.TargetRows,
				lists.NotNil(p.Keys)); err != nil {
				return err
			}
		}
		return nil
	})
	return pg.Wrap(err, "record what was proved")
}

// LoadProofs reads what is known of an epoch's tables, in no order.
func LoadProofs(ctx context.Context, conn *pgx.Conn, epoch int64) ([]Proof, error) {
	all, err := pg.Select(ctx, conn, func(p *Proof) []any {
		return []any{&p.Table.Schema, &p.Table.Name, &p.Verdict, &p.Reason, &p.SourceRows, &p.TargetRows, &p.Keys}
	}, `SELECT nsp, rel, verdict, reason, source_rows, target_rows, keys FROM crossfade.proof WHERE epoch = $1`, epoch)
	return all, pg.Wrap(err, "read what was proved")
}

// DecisionSaw returns what was visible on the target to the decision that opened it: all
// that the stream had applied, and nothing that was written by anybody since.
func DecisionSaw(ctx context.Context, q Querier, epoch int64) (seen pg.Snapshot, err error) {
	err = q.QueryRow(ctx, `SELECT seen FROM crossfade.decision WHERE epoch = $1 AND decision = 'commit'`, epoch).Scan(&seen)
	if errors.Is(err, pgx.ErrNoRows) {
		return pg.Snapshot{}, fmt.Errorf("read what the decision of epoch %d saw: the target holds no such decision", epoch)
	}
	return seen, pg.Wrap(err, "read what the decision of epoch %d saw", epoch)
}
