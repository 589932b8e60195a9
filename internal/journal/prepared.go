package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/pg"
)

// RefusePrepared returns an error that names a prepared transaction of this
// database, nil when there is none. It can be ended on the side that it was prepared
// on alone: behind a switch, its COMMIT PREPARED would find nothing.
func RefusePrepared(ctx context.Context, conn *pgx.Conn) error {
	var gid, owner, age string
	var more int
	err := conn.QueryRow(ctx, `SELECT x.gid, x.owner::text, coalesce(pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - x.prepared)::text, ''),
			(pg_catalog.count(*) OVER ())::int4 - 1
		FROM pg_catalog.pg_prepared_xacts x WHERE x.database = pg_catalog.current_database() ORDER BY x.prepared LIMIT 1`).Scan(&gid, &owner, &age, &more)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look for prepared transactions: %w", err)
	}
	also := ""
	if more > 0 {
		also = fmt.Sprintf(" (and %d more)", more)
	}
	return fmt.Errorf("transaction %s, prepared by %s %s ago%s, can be ended on this side only: COMMIT PREPARED or ROLLBACK PREPARED it first",
		pg.QuoteLiteral(gid), owner, age, also)
}
