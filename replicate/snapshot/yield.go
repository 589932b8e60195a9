package snapshot

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

// yieldEvery is how often the Yielder looks for waiting sessions. Together with
// the time that a cancelled COPY needs to end it stays below the 200 ms that
// Crossfade allows itself to hold up a statement.
const yieldEvery = 75 * time.Millisecond

// yieldPatience bounds how long the Yielder tries to get its session back: an
// outage of the server itself ends or is reported by the readers before that.
const yieldPatience = 10 * time.Minute

// Yielder cancels reads that stand in the way of an ACCESS EXCLUSIVE lock (ALTER TABLE, TRUNCATE,
// VACUUM FULL, LOCK TABLE). The reader sees SQLSTATE 57014 and reads that part again later.
// pg_locks shows every waiting session to every role, so that no privilege is needed.
type Yielder struct {
	connect Connect

	mu      sync.Mutex       // guards what follows
	readers map[int32]func() // by the server's process id, what to call
	wake    chan struct{}    // holds one token when readers came
	yielded int
}

// NewYielder returns a Yielder for the server that connect leads to.
func NewYielder(connect Connect) *Yielder {
	return &Yielder{connect: connect, readers: map[int32]func(){}, wake: make(chan struct{}, 1)}
}

// Reading registers the session as one that may be cancelled, until the returned function is
// called. onYield, if not nil, is called after each cancel, unless the read has ended by then: a
// server that waits for its client to take rows notices the cancel only when these are read. Safe
// for concurrent use.
func (y *Yielder) Reading(conn *pgx.Conn, onYield func()) (done func()) {
	return y.ReadingAs(int32(conn.PgConn().PID()), onYield)
}

// ReadingAs is Reading for the session whose pg_backend_pid() is pid. A proxy before the
// server, as on Neon, tells its clients another number when they log in.
func (y *Yielder) ReadingAs(pid int32, onYield func()) (done func()) {
	y.mu.Lock()
	y.readers[pid] = onYield
	y.mu.Unlock()
	select {
	case y.wake <- struct{}{}:
	default:
	}
	return func() {
		y.mu.Lock()
		delete(y.readers, pid)
		y.mu.Unlock()
	}
}

// Yielded returns how many reads were cancelled so far.
func (y *Yielder) Yielded() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.yielded
}

func (y *Yielder) pids() []int32 {
	y.mu.Lock()
	defer y.mu.Unlock()
	return slices.AppendSeq(make([]int32, 0, len(y.readers)), maps.Keys(y.readers))
}

// Run watches until ctx ends, and then returns nil. It opens its session again when that is lost.
func (y *Yielder) Run(ctx context.Context) error {
	var conn *pgx.Conn
	defer func() { Close(conn) }()
	tick := time.NewTicker(yieldEvery)
	defer tick.Stop()
	for {
		wake, now := (<-chan struct{})(y.wake), (<-chan time.Time)(nil)
		if len(y.pids()) > 0 {
			wake, now = nil, tick.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
			continue
		case <-now:
		}
		err := retry.Do(ctx, retry.Policy{MaxElapsed: yieldPatience}, func(ctx context.Context) error {
			return y.yieldOnce(ctx, &conn)
		})
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("watch for sessions that wait for a table being read: %w", err)
		}
	}
}

const yieldQuery = `SELECT coalesce(pg_catalog.array_agg(h.pid) FILTER (WHERE pg_catalog.pg_cancel_backend(h.pid)), '{}') FROM (
	SELECT DISTINCT h.pid FROM pg_catalog.pg_locks w
	JOIN pg_catalog.pg_locks h ON h.locktype = 'relation' AND h.granted AND h.database = w.database AND h.relation = w.relation
	WHERE w.locktype = 'relation' AND NOT w.granted AND w.mode = 'AccessExclusiveLock' AND h.pid = ANY ($1) AND h.pid <> w.pid) h`

func (y *Yielder) yieldOnce(ctx context.Context, conn **pgx.Conn) error {
	if *conn == nil || (*conn).IsClosed() {
		c, err := y.connect(ctx)
		if err != nil {
			if !Passing(err) {
				return retry.Permanent(err)
			}
			return err
		}
		*conn = c
	}
	var cancelled []int32
	if err := (*conn).QueryRow(ctx, yieldQuery, y.pids()).Scan(&cancelled); err != nil {
		if !pg.ConnectionLost(err) {
			return retry.Permanent(err)
		}
		Close(*conn)
		*conn = nil
		return err
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.yielded += len(cancelled)
	for _, pid := range cancelled {
		if f := y.readers[pid]; f != nil {
			f()
		}
	}
	return nil
}
