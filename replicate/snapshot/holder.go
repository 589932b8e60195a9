package snapshot

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/pg"
)

// keepAlive is how often Run asks the holder's session for a sign of life: well
// below the minutes after which firewalls forget a silent connection.
const keepAlive = 30 * time.Second

// Holder is a session that keeps one exported snapshot alive. Its methods may
// be called from several goroutines.
type Holder struct {
	id   string
	text string
	snap pg.Snapshot

	mu   sync.Mutex // guards the session
	conn *pgx.Conn
}

// Export takes a fresh snapshot and holds it. The caller closes the Holder.
func Export(ctx context.Context, connect Connect) (*Holder, error) {
	return hold(ctx, connect, "")
}

// Import holds a snapshot that another session exported, such as the one of a
// new replication slot. That session may end as soon as Import has returned.
// The caller closes the Holder.
func Import(ctx context.Context, connect Connect, id string) (*Holder, error) {
	return hold(ctx, connect, id)
}

func hold(ctx context.Context, connect Connect, id string) (*Holder, error) {
	conn, err := connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("hold snapshot: %w", err)
	}
	h := &Holder{conn: conn}
	if err := h.begin(ctx, id); err != nil {
		Close(conn)
		return nil, fmt.Errorf("hold snapshot: %w", err)
	}
	return h, nil
}

func (h *Holder) begin(ctx context.Context, id string) error {
	if id != "" {
		if err := Begin(ctx, h.conn, id, 0); err != nil {
			return err
		}
	} else if err := exec(ctx, h.conn, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"); err != nil {
		return err
	}
	err := h.conn.QueryRow(ctx, "SELECT "+Current(h.conn)+", pg_catalog.pg_export_snapshot()").Scan(&h.text, &h.id)
	if err != nil {
		return fmt.Errorf("export snapshot: %w", err)
	}
	h.snap, err = pg.ParseSnapshot(h.text)
	return err
}

// ID returns what SET TRANSACTION SNAPSHOT and pg_dump --snapshot want.
func (h *Holder) ID() string { return h.id }

// Text returns the snapshot as pg_current_snapshot() prints it.
func (h *Holder) Text() string { return h.text }

// Snapshot returns which transactions the snapshot sees.
func (h *Holder) Snapshot() pg.Snapshot { return h.snap }

// checkTimeout bounds the wait for a sign of life. A server that needs longer
// for SELECT 1 is taken for lost.
const checkTimeout = 20 * time.Second

// Check asks the session for a sign of life; an error is ErrLost, unless ctx has
// ended before. The end of ctx does not interrupt it: that would break the
// session, and with it the snapshot.
func (h *Holder) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := exec(ctx, h.conn, "SELECT 1"); err != nil {
		return fmt.Errorf("keep snapshot %s: %w: %w", h.id, ErrLost, err)
	}
	return nil
}

// Run keeps the session busy so that nothing between here and the server
// forgets it. It returns nil when ctx ends and an error that is ErrLost when the
// snapshot is gone. It does not close the Holder.
func (h *Holder) Run(ctx context.Context) error {
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := h.Check(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// Close lets the snapshot go. It may be called more than once.
func (h *Holder) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	Close(h.conn)
}
