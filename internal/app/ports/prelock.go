package ports

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// Bounds of what the ports wait for. The cutover's own are in cutover/machine.
const (
	// fenceTries bounds how often the fence asks for its locks in one pause:
	// with the default lock timeout of 200 ms a second in all.
	fenceTries = 5
	// unattended lets the server end a pre-lock, a fence or a decision whose client has gone
	// silent between two of its statements: they follow each other at once, and a pre-lock
	// is used every prelockBeat.
	unattended = "SET LOCAL idle_in_transaction_session_timeout = '20s';"
	// prelockPatience is how long the pre-lock waits for one table: longer than deadlock_timeout,
	// after which PostgreSQL cancels an autovacuum that is in the way. Writers pass a waiting
	// request of this mode, and the guard releases the lock for sessions that do not.
	prelockPatience = 3 * time.Second
	// prelockBeat is how often the session of a pre-lock says something.
	prelockBeat = 4 * time.Second
	// wakeTimeout is how long a row of cron.job is waited for, which an operator may hold.
	wakeTimeout = 100 * time.Millisecond
	// DecisionLockTimeout bounds each lock of the decision. Only our own
	// applier writes the target then, a batch at a time.
	DecisionLockTimeout = 2 * time.Second
	// lagPatience is how long an attempt waits for the stream to catch up before its limit is
	// checked.
	lagPatience = 10 * time.Second
	// preparedPatience is how old a prepared transaction may be to count as one that its
	// application is about to end: longer than the other databases of a distributed
	// transaction take to prepare, shorter than a person takes.
	preparedPatience = 5 * time.Second
	// prepareTimeout bounds the fence's preparation on the source, which waits
	// for the application's transactions in turns.
	prepareTimeout = 30 * time.Second
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
	// Neon's key data is no process number, so the server is asked for it.
	var pid int32
	if err = pg.Exec(ctx, conn, "BEGIN;"+journal.SetLocalLockTimeout(prelockPatience)+unattended); err == nil {
		err = conn.QueryRow(ctx, `SELECT pg_catalog.pg_backend_pid()`).Scan(&pid)
	}
	if err != nil {
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
		if w := found[waits]; w.Lock != "" { // it still waits
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

const (
	// QuietLimit is how long applications are held, in addition to the wait for the locks, for a
	// statement on the target that needs locks for which they leave no moment.
	QuietLimit = 400 * time.Millisecond
	// quietAge is how long the transactions that hold its tables may be open, in seconds: one that
	// is open for longer will hardly end in the time.
	quietAge = 5
)

// Quiet holds the proxy's sessions between two transactions while do runs: Proxy.Quiet. If it is
// nil, no session is held. Sessions that bypass the proxy never are.
type Quiet func(ctx context.Context, limit time.Duration, do func(context.Context) error) error

// run calls do, which takes locks of tables, while applications are held, unless that would not
// help: the transactions that hold the tables are not about to end.
func (q Quiet) run(ctx context.Context, holders func() []dbconn.Process, do func(context.Context) error) (held bool, err error) {
	if q == nil || !soonGone(holders()) {
		return false, do(ctx)
	}
	return true, q(ctx, QuietLimit, do)
}

// soonGone reports whether transactions are about to end, as far as their age tells.
func soonGone(holders []dbconn.Process) bool {
	return !slices.ContainsFunc(holders, func(p dbconn.Process) bool { return p.Age > quietAge })
}

// Patience is the bound for statements that lock tables on the active side. If applications are
// held for one, the hold and the wait for the lock share the bound, so that no application waits
// longer than lockTimeout (C13). The table's writers are looked up over a link that the statement
// does not use.
func (q Quiet) Patience(side *dbconn.Link, lockTimeout time.Duration) journal.Patience {
	how := journal.Patience{LockTimeout: lockTimeout}
	if q == nil {
		return how
	}
	how.Quiet = func(ctx context.Context, table pg.Name, do func(context.Context, time.Duration) error) error {
		if !soonGone(holdersOf(ctx, side, []pg.Name{table}, nil)) {
			return do(ctx, lockTimeout)
		}
		half := lockTimeout / 2
		return q(ctx, half, func(ctx context.Context) error { return do(ctx, half) })
	}
	return how
}

// holdersOf are the transactions that hold tables against a statement that waits for their locks, and
// the readers of tables that are exclusive, the longest first; none where that cannot be asked.
func holdersOf(ctx context.Context, side *dbconn.Link, tables, exclusive []pg.Name) (found []dbconn.Process) {
	names, alone := lists.Map(tables, pg.Name.String), lists.Map(exclusive, pg.Name.String)
	_ = side.Do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		found, err = dbconn.TableHolders(ctx, conn, names, alone)
		return err
	})
	return found
}
