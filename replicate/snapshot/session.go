package snapshot

import (
	"cmp"
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
	if pg.IsCode(err, pg.CodeInvalidParameter, pg.CodeUndefinedObject, pg.CodeObjectNotInState) {
		return fmt.Errorf("import snapshot %s: %w: %w", id, ErrLost, err)
	}
	return pg.Wrap(err, "import snapshot %s", id)
}

// closeTimeout bounds the goodbye of a session: it is a courtesy, and a server
// that is gone must not hold us up.
const closeTimeout = 3 * time.Second

// Close ends a session and waits, for a bounded time, until its socket is
// closed. It does nothing for nil.
func Close(conn *pgx.Conn) {
	if conn != nil {
		pg.Close(conn.PgConn(), closeTimeout)
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

// errOther says that an identifier led to a snapshot that is not the one it was given for.
var errOther = fmt.Errorf("%w: the server was restarted, and gave its identifier to another one", ErrLost)

// Begin begins a read-only transaction under the snapshot, on a session of the
// caller's. Locks are waited for at most lockTimeout; zero means without a bound. An
// error that is ErrLost says that the snapshot is gone.
//
// What the transaction sees is compared with the snapshot: an identifier is made
// of numbers that a server counts from its start, so that one that was restarted
// gives them again, to a later snapshot of ours for example.
func (h *Holder) Begin(ctx context.Context, conn *pgx.Conn, lockTimeout time.Duration) error {
	id := h.ID()
	if err := Begin(ctx, conn, id, lockTimeout); err != nil {
		return err
	}
	text, err := current(ctx, conn)
	if err == nil && text == h.Text() {
		return nil
	}
	if err == nil {
		err = errOther
	}
	if back := pg.Exec(ctx, conn, "ROLLBACK"); back != nil {
		return fmt.Errorf("import snapshot %s: %w (%w)", id, err, back)
	}
	return fmt.Errorf("import snapshot %s: %w", id, err)
}

// BeginOn begins a read-only transaction on conn: under h or, where that is nil, under a snapshot of
// its own.
func BeginOn(ctx context.Context, conn *pgx.Conn, h *Holder, lockTimeout time.Duration) error {
	if h == nil {
		return pg.Exec(ctx, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
	}
	return h.Begin(ctx, conn, lockTimeout)
}

// Read calls read within a transaction of its own under the snapshot, as Begin begins it.
func (h *Holder) Read(ctx context.Context, conn *pgx.Conn, lockTimeout time.Duration, read func() error) error {
	if err := h.Begin(ctx, conn, lockTimeout); err != nil {
		return err
	}
	err := read()
	_, end := conn.Exec(ctx, "ROLLBACK")
	return cmp.Or(err, end)
}

// current returns the snapshot of the session's transaction, as pg_current_snapshot() prints it.
func current(ctx context.Context, conn *pgx.Conn) (text string, err error) {
	results, err := conn.PgConn().Exec(ctx, "SELECT "+Current(conn)).ReadAll()
	if err != nil {
		return "", err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return "", fmt.Errorf("read the transaction's snapshot: %d results", len(results))
	}
	return string(results[0].Rows[0][0]), nil
}

// Passing reports whether err, of a read, a write or a login of a copy, may be gone at the next
// attempt: the connection was lost, the server did not answer the login in time, a lock was not to
// be had, or the statement was cancelled, as the Yielder does.
func Passing(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if errors.Is(err, context.DeadlineExceeded) || pg.ConnectionLost(err) {
		return true
	}
	return pg.IsCode(err, pg.CodeQueryCanceled, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected, pg.CodeSerializationFailure)
}
