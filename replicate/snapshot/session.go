package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// Connect opens one more session at a database. The caller owns it.
type Connect func(ctx context.Context) (*pgx.Conn, error)

// ErrLost says that the transaction that exported a snapshot has ended, so that the snapshot can no
// longer be imported.
var ErrLost = errors.New("snapshot is gone")

// readSettings make the server read block ranges by a TID range scan, whatever
// its statistics say, and with one process.
const readSettings = `SET enable_seqscan = off; SET enable_indexscan = off; SET enable_indexonlyscan = off;
	SET enable_bitmapscan = off; SET enable_tidscan = on; SET max_parallel_workers_per_gather = 0`

// Session opens a session made for reading tables by ranges of blocks.
func Session(ctx context.Context, connect Connect) (*pgx.Conn, error) {
	conn, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := pg.Exec(ctx, conn, readSettings); err != nil {
		Close(conn)
		return nil, fmt.Errorf("prepare reading session: %w", err)
	}
	return conn, nil
}

// Begin begins a read-only transaction under the exported snapshot id. Locks are waited for at most
// lockTimeout; zero means without a bound. An error that is ErrLost says that the snapshot is gone.
func Begin(ctx context.Context, conn *pgx.Conn, id string, lockTimeout time.Duration) error {
	err := pg.Exec(ctx, conn, fmt.Sprintf(
		"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT %s; SET LOCAL lock_timeout = %d",
		pg.QuoteLiteral(id), lockTimeout.Milliseconds()))
	switch {
	case err == nil:
		return nil
	case pg.IsCode(err, pg.CodeInvalidParameter, pg.CodeUndefinedObject, pg.CodeObjectNotInState):
		return fmt.Errorf("import snapshot %s: %w: %w", id, ErrLost, err)
	default:
		return fmt.Errorf("import snapshot %s: %w", id, err)
	}
}

// closeTimeout bounds the goodbye of a session: it is a courtesy, and a server
// that is gone must not hold us up.
const closeTimeout = 3 * time.Second

// Close ends a session and waits, for a bounded time, until its socket is
// closed. It does nothing for nil.
func Close(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx)
	select {
	case <-conn.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}

// BlockRanges reports whether the server reads ranges of blocks without
// scanning the whole table (TID range scan, PostgreSQL 14).
func BlockRanges(conn *pgx.Conn) bool { return pg.ServerVersion(conn) >= 140000 }

// Current is the expression for the session's snapshot as text, xmin:xmax:list.
func Current(conn *pgx.Conn) string {
	if pg.ServerVersion(conn) < 130000 {
		return "pg_catalog.txid_current_snapshot()::text"
	}
	return "pg_catalog.pg_current_snapshot()::text"
}
