package snapshot

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

const (
	// settleWait bounds the wait for transactions whose commit is in the log and which have not
	// ended yet: it takes microseconds, unless the server's process gets no processor.
	settleWait = time.Minute
	// settlePause is how often they are checked.
	settlePause = 5 * time.Millisecond
)

// settle waits until each transaction that the snapshot takes for committed has written so to
// the server's commit log (pg_xact).
//
// A backend writes the commit to the WAL first, then to pg_xact, and leaves the list of running
// transactions last (RecordTransactionCommit and CommitTransaction in xact.c). Decoding reads the
// WAL, so that the snapshot of a new slot may see a transaction whose pg_xact entry is still
// missing. A reader of such a row would take it for aborted, leave rows out or return them twice,
// and leave that as a hint in the page itself, where it stays: the source's own table would be
// damaged. So nothing is read under such a snapshot before they have ended for other sessions too.
// One that waits for a synchronous standby has its entry already.
func (h *Holder) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	conn, err := h.connect(ctx)
	if err != nil {
		return err
	}
	defer Close(conn)
	var open []uint64
	for range retry.Poll(ctx, settlePause) {
		if open, err = unsettled(ctx, conn, h.snap); err != nil || len(open) == 0 {
			return err
		}
	}
	return fmt.Errorf("transaction %d of the source is committed in its log and has not ended: is its server process stopped? %w", open[0], ctx.Err())
}

// unsettled lists the transactions that seen sees and that run for other sessions, those aside that
// wait for a synchronous standby.
func unsettled(ctx context.Context, conn *pgx.Conn, seen pg.Snapshot) ([]uint64, error) {
	var text string
	var waiting []uint32
	err := conn.QueryRow(ctx, "SELECT "+Current(conn)+`, ARRAY(SELECT backend_xid::text::bigint FROM pg_catalog.pg_stat_activity
		WHERE backend_xid IS NOT NULL AND wait_event OPERATOR(pg_catalog.=) 'SyncRep')`).Scan(&text, &waiting)
	if err != nil {
		return nil, fmt.Errorf("look for transactions that are about to end: %w", err)
	}
	now, err := pg.ParseSnapshot(text)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(now.Lacks(seen), func(xid uint64) bool { return slices.Contains(waiting, uint32(xid)) }), nil
}
