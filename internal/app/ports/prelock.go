package ports

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
)

// Prelock holds SHARE UPDATE EXCLUSIVE on a side's tables in a session of its own: writers pass,
// DDL and vacuum do not (C14). A guard watches for sessions that wait for it and releases it at
// once when there is one (C21). The lock helps but is not required: the fence and the decision take
// the locks that they need themselves.
type Prelock struct {
	DSN     pg.DSN
	Options []pg.Option
	Watch   *dbconn.Link  // where the guard searches for waiters
	Beat    time.Duration // how often the idle session is used, or 0 for prelockBeat
	Spare   *dbconn.Link  // what is used where no further session is to be had; nil for none

	mu     sync.Mutex
	conn   *pgx.Conn               // in a transaction that holds the lock, or nil
	pid    int32                   // of the session that take or use has opened last
	taking context.CancelCauseFunc // gives up a lock that is being taken, or nil
	stop   context.CancelFunc      // ends the guard
	done   chan struct{}           // closed when the guard has ended
	lost   func(reason string)     // called when the guard has released the lock
}

// take locks the tables. Someone may wait for a table that it has while it waits for the next: then
// it gives up, and the caller may try again.
func (p *Prelock) take(ctx context.Context, tables []pg.Name, lost func(reason string)) error {
	p.Release()
	conn, err := pg.Connect(ctx, p.DSN, p.Options...)
	if pg.IsCode(err, pg.CodeTooManyConnections) && p.Spare != nil {
		lost("not taken, since there is no connection for it: " + err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	if err := pg.Exec(ctx, conn, "BEGIN;"+journal.SetLocalLockTimeout(prelockPatience)+unattended); err != nil {
		dbconn.CloseNow(conn)
		return fmt.Errorf("pre-lock tables: %w", err)
	}
	// Neon's key data is no process number, so the server is asked for it.
	var pid int32
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_backend_pid()`).Scan(&pid); err != nil {
		dbconn.CloseNow(conn)
		return fmt.Errorf("pre-lock tables: %w", err)
	}
	locking, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	guardCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.mu.Lock()
	p.stop, p.done, p.taking, p.lost, p.pid = stop, make(chan struct{}), giveUp, lost, pid
	go p.guard(guardCtx, pid, p.done)
	p.mu.Unlock()

	err = dbconn.NameHolder(locking, p.Watch, pid, func() error {
		_, err := conn.PgConn().Exec(locking, journal.Lock(tables, "SHARE UPDATE EXCLUSIVE")).ReadAll()
		return err
	})
	p.mu.Lock()
	p.taking = nil
	if cause := context.Cause(locking); cause != nil {
		err = cause
	}
	if err == nil {
		p.conn = conn
	}
	p.mu.Unlock()
	if err != nil {
		dbconn.CloseNow(conn)
		p.Release()
		return fmt.Errorf("pre-lock tables: %w", err)
	}
	return nil
}

// errWaitedFor says that an application's session waited for the pre-lock.
var errWaitedFor = errors.New("an application waits for it")

// guard releases the lock as soon as someone waits for it, and shows the server that this process
// runs: the lock of one that was stopped ends with the transaction.
func (p *Prelock) guard(ctx context.Context, pid int32, done chan struct{}) {
	defer close(done)
	tick, beat := time.NewTicker(dbconn.LockPoll), time.NewTicker(cmp.Or(p.Beat, prelockBeat))
	defer tick.Stop()
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			p.touch(ctx)
			continue
		case <-tick.C:
		}
		who, err := p.waiter(ctx, pid)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			who = "it could not be found out who waits: " + err.Error()
		}
		if who == "" {
			continue
		}
		p.mu.Lock()
		taking, lost := p.taking, p.lost
		p.mu.Unlock()
		if taking != nil {
			taking(fmt.Errorf("%w: %s", errWaitedFor, who))
		} else if p.letGo() && lost != nil {
			lost("let go for " + who)
		}
		return
	}
}

// touch uses the session that holds the lock, if there is one. What fails is seen when the
// session is needed.
func (p *Prelock) touch(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil || p.taking != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dbconn.CloseTimeout) // broken off, it would end the session
	defer cancel()
	_, _ = p.conn.PgConn().Exec(ctx, "SELECT").ReadAll()
}

// waiter names an application's session that waits for process pid, and for which table.
func (p *Prelock) waiter(ctx context.Context, pid int32) (string, error) {
	var who string
	err := p.Watch.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		var waits int32
		err := conn.QueryRow(ctx, `SELECT a.pid FROM pg_catalog.pg_stat_activity a
			WHERE a.wait_event_type = 'Lock' AND a.backend_type <> 'autovacuum worker'
			  AND $1 = ANY (pg_catalog.pg_blocking_pids(a.pid)) LIMIT 1`, pid).Scan(&waits)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		found, err := dbconn.LockWaits(ctx, conn, []int32{waits})
		if w, ok := found[waits]; ok {
			who = w.Process.String() + ", waits for " + w.Lock
		}
		return err
	})
	return who, err
}

// letGo closes the session, unless someone is using it for the fence right now: that transaction is
// short and bounded itself. It reports whether there was one.
func (p *Prelock) letGo() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return false
	}
	dbconn.CloseNow(p.conn)
	p.conn = nil
	return true
}

// Release ends the guard and gives the lock back. It may be called at any time
// but by the lost callback.
func (p *Prelock) Release() {
	p.mu.Lock()
	stop, done := p.stop, p.done
	p.stop, p.done = nil, nil
	p.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
	p.letGo()
}

// namingHolder runs f; if f waits for a lock, its error names the holder. The session is the one
// that take or use opened last.
func (p *Prelock) namingHolder(ctx context.Context, f func() error) error {
	p.mu.Lock()
	pid := p.pid
	p.mu.Unlock()
	return dbconn.NameHolder(ctx, p.Watch, pid, f)
}

// use passes to f the session whose transaction holds the lock or, if that was released, a new one
// in a fresh transaction; if no new one can be opened because the connections are used up, the
// spare one. f must end the transaction; the session is closed after it.
func (p *Prelock) use(ctx context.Context, f func(ctx context.Context, conn *pgx.Conn) error) error {
	p.mu.Lock()
	stop, done := p.stop, p.done
	p.stop, p.done = nil, nil
	conn := p.conn
	p.conn = nil
	p.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
	if conn == nil || conn.IsClosed() {
		var err error
		conn, err = pg.Connect(ctx, p.DSN, p.Options...)
		if pg.IsCode(err, pg.CodeTooManyConnections) && p.Spare != nil {
			return p.Spare.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
				if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
					return fmt.Errorf("begin: %w", err)
				}
				return f(ctx, conn)
			})
		}
		if err != nil {
			return err
		}
		var pid int32
		if _, err = conn.Exec(ctx, "BEGIN"); err == nil {
			err = conn.QueryRow(ctx, `SELECT pg_catalog.pg_backend_pid()`).Scan(&pid)
		}
		if err != nil {
			dbconn.CloseNow(conn)
			return fmt.Errorf("begin: %w", err)
		}
		p.mu.Lock()
		p.pid = pid
		p.mu.Unlock()
	}
	defer dbconn.CloseNow(conn)
	return f(ctx, conn)
}
