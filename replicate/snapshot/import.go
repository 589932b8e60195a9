package snapshot

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

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
