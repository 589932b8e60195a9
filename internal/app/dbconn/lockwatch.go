package dbconn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

const (
	// LockPoll is how often sessions that wait for a lock are searched for. PostgreSQL has no event
	// for that. A waiter is noticed well within the 200 ms that it may have to wait.
	LockPoll = 40 * time.Millisecond
	// AskTimeout bounds one query for the holder of a lock.
	AskTimeout = 2 * time.Second
	// lastAnswer is how long the last query is waited for if there is something to add to an error.
	lastAnswer = 300 * time.Millisecond
	// asksWithout is how many polls in a row must find no waiter before the lock counts as granted.
	// A single one may have been made after the server gave up, which we do not know yet.
	asksWithout = 2
)

// LockedError is an error about a lock, or about time that was up, that tells who held the lock.
type LockedError struct {
	Side string // "source" or "target"; "" if the caller says it
	Wait Wait
	Err  error
}

func (e *LockedError) Error() string {
	on := ""
	if e.Side != "" {
		on = "on the " + e.Side + " "
	}
	return fmt.Sprintf("%s%s (%v)", on, e.Wait, e.Err)
}

func (e *LockedError) Unwrap() error { return e.Err }

// LockRemedy is what ends the wait that an error reports, "" for none.
func LockRemedy(err error) string {
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Side == "" {
		return ""
	}
	return locked.Wait.Remedy(locked.Side)
}

// Remedy says how those that hold a lock on a side are got rid of.
func (w Wait) Remedy(side string) string {
	var ends []string
	prepared := false
	for _, h := range w.Holders {
		if h.PID == 0 {
			prepared = true
		} else if !strings.HasPrefix(h.Application, "crossfade") {
			ends = append(ends, fmt.Sprintf("pg_terminate_backend(%d)", h.PID))
		}
	}
	switch {
	case len(ends) == 1:
		return fmt.Sprintf("let that transaction end, or end it on the %s: SELECT %s", side, ends[0])
	case len(ends) > 1:
		return fmt.Sprintf("let these transactions end, or end them on the %s: SELECT %s", side, strings.Join(ends, ", "))
	case prepared:
		return fmt.Sprintf("end the prepared transaction on the %s, with COMMIT PREPARED or ROLLBACK PREPARED and the gid that SELECT gid, prepared, owner FROM pg_prepared_xacts shows", side)
	}
	return "wait: a session of crossfade's own holds it"
}

// LockWatch sees whom a session of ours waits for while it asks for a lock.
type LockWatch struct {
	Side string
	Stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	Last    Wait
	seen    time.Time // when last was seen; zero if the session waits for no other
	without int       // queries since then
}

// LockWaitOf asks what a server process waits for.
func LockWaitOf(pid int32) func(context.Context, *pgx.Conn) (Wait, error) {
	return func(ctx context.Context, conn *pgx.Conn) (Wait, error) {
		found, err := LockWaits(ctx, conn, []int32{pid})
		return found[pid], err
	}
}

// seldomWaits is LockWaitOf for a process that hardly ever waits: asking costs the server almost
// nothing as long as it does not, and one more round trip where it does.
func seldomWaits(pid int32) func(context.Context, *pgx.Conn) (Wait, error) {
	return func(ctx context.Context, conn *pgx.Conn) (w Wait, err error) {
		waits := false
		if err := conn.QueryRow(ctx, `SELECT pg_catalog.cardinality(pg_catalog.pg_blocking_pids($1)) > 0`, pid).Scan(&waits); err != nil || !waits {
			return w, err
		}
		return LockWaitOf(pid)(ctx, conn)
	}
}

// WatchLock begins to ask, through a link, what a session waits for. The caller ends it: with
// endLockWatches, or with Stop, after which LastSeen tells what was seen.
func WatchLock(ctx context.Context, l *Link, side string, ask func(context.Context, *pgx.Conn) (Wait, error)) *LockWatch {
	ctx, stop := context.WithCancel(ctx)
	o := &LockWatch{Side: side, Stop: stop, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		for range retry.Every(ctx, LockPoll) {
			// A query is not cancelled, since that would end the session that the guard uses too.
			asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), AskTimeout)
			_ = l.Do(asking, func(asking context.Context, conn *pgx.Conn) error {
				w, err := ask(asking, conn)
				if err == nil {
					o.note(w, ctx.Err() != nil)
				}
				return err // then the lock's own error has to do
			})
			cancel()
		}
	}()
	return o
}

// note keeps the result of a poll. A result after the end only tells which holder there was.
func (o *LockWatch) note(w Wait, ended bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(w.Holders) > 0 && w.Lock != "" {
		o.Last, o.seen, o.without = w, time.Now(), 0
		return
	}
	// Without a side it is one that asks for the same locks again and again, with pauses, until
	// time is up.
	if o.without++; o.without >= asksWithout && !ended && o.Side != "" {
		o.seen = time.Time{}
	}
}

// NameHolder runs f, and adds to its error about a lock who held it. pid is the server process
// that f asks for locks.
func NameHolder(ctx context.Context, l *Link, pid int32, f func() error) error {
	o := WatchLock(ctx, l, "", LockWaitOf(pid))
	return endLockWatches(f(), o)
}

// NameHolder is the function NameHolder for the session of a link, within its Do. watch is the link
// for the queries.
func (l *Link) NameHolder(ctx context.Context, watch *Link, f func() error) error {
	pid, err := l.process(ctx)
	if err != nil {
		return err
	}
	return NameHolder(ctx, watch, pid, f)
}

// process is the server process of a link's session, within its Do. It is asked for once a session:
// the key data of the session is not reliable if a proxy is in front of the server.
func (l *Link) process(ctx context.Context) (int32, error) {
	if l.asked != l.conn {
		if err := l.conn.QueryRow(ctx, `SELECT pg_catalog.pg_backend_pid()`).Scan(&l.pid); err != nil {
			return 0, err
		}
		l.asked = l.conn
	}
	return l.pid, nil
}

// SideNames are the names of the links to source and target, by their index.
var SideNames = [2]string{"source", "target"}

// NameHolders is NameHolder for sessions on source and target, within the Do of both links, and
// says on which side the lock is. If guards has none, that side is not checked.
func NameHolders(ctx context.Context, sessions, guards [2]*Link, f func() error) error {
	var outs []*LockWatch
	for i, l := range sessions {
		if guards[i] == nil {
			continue
		}
		pid, err := l.process(ctx)
		if err != nil {
			return endLockWatches(err, outs...)
		}
		outs = append(outs, WatchLock(ctx, guards[i], SideNames[i], seldomWaits(pid)))
	}
	return endLockWatches(f(), outs...)
}

// endLockWatches stops looking, and adds to an error about a lock, or about time that was up, who
// held the lock. It waits for nothing where there is nothing to add.
func endLockWatches(err error, outs ...*LockWatch) error {
	for _, o := range outs {
		o.Stop()
	}
	if !pg.IsCode(err, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if last := LastSeen(outs...); last != nil {
		return &LockedError{Side: last.Side, Wait: last.Last, Err: err}
	}
	return err
}

// SeenOf is LastSeen for the error of a program of its own, such as pg_dump, that ends some time
// after the server refused it a lock: queries that found no waiter meanwhile count for nothing where
// the error names the table that was waited for last.
func (o *LockWatch) SeenOf(err error) *LockWatch {
	last := LastSeen(o)
	if last != nil {
		return last
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	table, ok := strings.CutPrefix(o.Last.Lock, "table ")
	if said := err.Error(); !ok || !strings.Contains(said, " "+table+",") && !strings.Contains(said, " "+table+" ") {
		return nil
	}
	return &LockWatch{Side: o.Side, Last: o.Last}
}

// LastSeen waits for the last queries, and returns the one that saw a wait last, nil for none.
func LastSeen(outs ...*LockWatch) *LockWatch {
	bound := time.NewTimer(lastAnswer)
	defer bound.Stop()
	for _, o := range outs {
		select {
		case <-o.done:
			continue
		case <-bound.C:
		}
		break
	}
	var last *LockWatch
	for _, o := range outs {
		o.mu.Lock()
		seen := &LockWatch{Side: o.Side, Last: o.Last, seen: o.seen}
		o.mu.Unlock()
		if !seen.seen.IsZero() && (last == nil || seen.seen.After(last.seen)) {
			last = seen
		}
	}
	return last
}
