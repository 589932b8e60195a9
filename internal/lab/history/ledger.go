package history

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// Querier is what Check needs of a connection; *pgx.Conn and pgx.Tx are such.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// forEach scans each row of a query into the same variables and calls f. what names that which is
// read, for the error.
func forEach(ctx context.Context, q Querier, what, sql string, into []any, f func()) error {
	rows, err := q.Query(ctx, sql)
	if err == nil {
		_, err = pgx.ForEachRow(rows, into, func() error { f(); return nil })
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}

// LedgerDDL returns the statements that make the ledger. It needs PostgreSQL 13
// (gen_random_uuid).
//
// prev is the highest seq of the client that the transaction saw, 0 if none;
// side is SideSQL's answer; ids are the numbers that sequences handed to the
// transaction.
func LedgerDDL(table pg.Name) string {
	return `CREATE TABLE ` + table.String() + ` (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	client int NOT NULL,
	seq bigint NOT NULL,
	kind text NOT NULL,
	prev bigint NOT NULL,
	side text NOT NULL,
	ids bigint[] NOT NULL,
	at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX ON ` + table.String() + ` (client, seq)`
}

// SideSQL is an expression, as text, that tells one cluster from another. Any
// role may evaluate it.
const SideSQL = `(SELECT system_identifier::text FROM pg_catalog.pg_control_system())`

// row is one row of the ledger.
type row struct {
	token Token
	prev  int64
	side  string
	ids   []int64
}

func readLedger(ctx context.Context, q Querier, table pg.Name, each func(row)) error {
	rows, err := q.Query(ctx, `SELECT client, seq, prev, side, ids FROM `+table.String())
	if err != nil {
		return fmt.Errorf("read ledger %s: %w", table.Display(), err)
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.token.Client, &r.token.Seq, &r.prev, &r.side, &r.ids); err != nil {
			return fmt.Errorf("read ledger %s: %w", table.Display(), err)
		}
		each(r)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read ledger %s: %w", table.Display(), err)
	}
	return nil
}
