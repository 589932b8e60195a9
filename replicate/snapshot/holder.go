package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

// keepAlive is how often Run asks the holder's sessions for a sign of life: well
// below the minutes after which firewalls forget a silent connection.
const keepAlive = 30 * time.Second

// Holder keeps one exported snapshot alive, by one session or, after Double, by
// two. Its methods may be called from several goroutines.
type Holder struct {
	connect Connect
	text    string
	snap    pg.Snapshot

	asking  sync.Mutex // held while the sessions are used
	doubled bool       // guarded by asking

	mu   sync.Mutex // guards what follows
	pins []pin      // those that live, as far as is known
	id   string     // of the first of them, or of the last that lived
}

// pin is a session within a transaction that has the snapshot and exports it.
type pin struct {
	conn *pgx.Conn
	id   string
}

// Export takes a fresh snapshot and holds it. The caller closes the Holder.
func Export(ctx context.Context, connect Connect) (*Holder, error) {
	return hold(ctx, connect, "")
}

// Import holds a snapshot that another session exported, such as the one of a new replication slot.
// That session may end as soon as Import has returned, which waits until what the snapshot sees can
// be read under it (settle). The caller closes the Holder.
func Import(ctx context.Context, connect Connect, id string) (*Holder, error) {
	h, err := hold(ctx, connect, id)
	if err != nil {
		return nil, err
	}
	if err := h.settle(ctx); err != nil {
		h.Close()
		return nil, fmt.Errorf("hold snapshot %s: %w", h.Text(), err)
	}
	return h, nil
}

func hold(ctx context.Context, connect Connect, id string) (*Holder, error) {
	h := &Holder{connect: connect}
	p, text, err := h.pin(ctx, id)
	if err == nil {
		h.snap, err = pg.ParseSnapshot(text)
	}
	if err != nil {
		Close(p.conn)
		return nil, fmt.Errorf("hold snapshot: %w", err)
	}
	h.text = text
	h.set([]pin{p})
	return h, nil
}

// pin opens a session that has the snapshot id, or a fresh one if id is "".
func (h *Holder) pin(ctx context.Context, id string) (p pin, text string, err error) {
	if p.conn, err = h.connect(ctx); err != nil {
		return pin{}, "", err
	}
	if id != "" {
		err = Begin(ctx, p.conn, id, 0)
	} else {
		err = pg.Exec(ctx, p.conn, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
	}
	if err == nil {
		err = p.conn.QueryRow(ctx, "SELECT "+Current(p.conn)+", pg_catalog.pg_export_snapshot()").Scan(&text, &p.id)
	}
	if err != nil {
		Close(p.conn)
		return pin{}, "", fmt.Errorf("export snapshot: %w", err)
	}
	return p, text, nil
}

// Double opens a second session, so that the loss of one is not that of the
// snapshot. From then on Check replaces a session that was lost.
func (h *Holder) Double(ctx context.Context) error {
	h.asking.Lock()
	defer h.asking.Unlock()
	h.doubled = true
	return h.again(ctx)
}

// again makes up for a session that was lost, from one that lives. The caller has locked asking.
func (h *Holder) again(ctx context.Context) error {
	pins := h.list()
	if !h.doubled || len(pins) != 1 {
		return nil
	}
	p, _, err := h.pin(ctx, pins[0].id)
	if err != nil {
		return fmt.Errorf("hold snapshot %s twice: %w", pins[0].id, err)
	}
	h.set(append(pins, p))
	return nil
}

func (h *Holder) list() []pin {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.pins)
}

func (h *Holder) set(pins []pin) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pins = pins
	if len(pins) > 0 {
		h.id = pins[0].id
	}
}

// ID returns what SET TRANSACTION SNAPSHOT and pg_dump --snapshot want. It may
// be another one after Check.
func (h *Holder) ID() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.id
}

// Text returns the snapshot as pg_current_snapshot() prints it.
func (h *Holder) Text() string { return h.text }

// Snapshot returns which transactions the snapshot sees.
func (h *Holder) Snapshot() pg.Snapshot { return h.snap }

// checkTimeout bounds the wait for a sign of life, and the login of a session in
// place of a lost one. A server that needs longer for SELECT 1 is taken for lost.
const checkTimeout = 20 * time.Second

// Check asks the sessions for a sign of life; an error is ErrLost, unless ctx has ended before. The
// end of ctx does not interrupt it: that would break the sessions, and with them the snapshot.
func (h *Holder) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	h.asking.Lock()
	defer h.asking.Unlock()
	var alive []pin
	why := errors.New("it was let go")
	for _, p := range h.list() {
		if err := ask(ctx, p.conn); err != nil {
			why = err
			Close(p.conn)
			continue
		}
		alive = append(alive, p)
	}
	h.set(alive)
	if len(alive) == 0 {
		return fmt.Errorf("keep snapshot %s: %w: %w", h.text, ErrLost, why)
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	_ = h.again(ctx) // for now one is enough
	return nil
}

func ask(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return pg.Exec(ctx, conn, "SELECT 1")
}

// Run keeps the sessions busy so that nothing between here and the server
// forgets them. It returns nil when ctx ends and an error that is ErrLost when the
// snapshot is gone. It does not close the Holder.
func (h *Holder) Run(ctx context.Context) error {
	for range retry.Every(ctx, keepAlive) {
		if err := h.Check(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// Close lets the snapshot go. It may be called more than once.
func (h *Holder) Close() {
	h.asking.Lock()
	defer h.asking.Unlock()
	for _, p := range h.list() {
		Close(p.conn)
	}
	h.set(nil)
}

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
	var now pg.Snapshot
	var waiting []uint32
	err := conn.QueryRow(ctx, "SELECT "+Current(conn)+`, ARRAY(SELECT backend_xid::text::bigint FROM pg_catalog.pg_stat_activity
		WHERE backend_xid IS NOT NULL AND wait_event OPERATOR(pg_catalog.=) 'SyncRep')`).Scan(&now, &waiting)
	if err != nil {
		return nil, fmt.Errorf("look for transactions that are about to end: %w", err)
	}
	return slices.DeleteFunc(now.Lacks(seen), func(xid uint64) bool { return slices.Contains(waiting, uint32(xid)) }), nil
}
