package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/schema/catalog"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// Run executes statements on conn one by one, in the caller's transaction where
// one is open. It is what a decision, or the step after pre-data, calls.
func Run(ctx context.Context, conn *pgx.Conn, statements []plan.Statement) error {
	for _, s := range statements {
		if err := pg.Exec(ctx, conn, s.SQL); err != nil {
			return failed(s, err)
		}
	}
	return nil
}

// RefreshMatViews fills the materialised views that are populated on the
// source, those that others read first. It tries all of them and returns what the target
// has refused; the error is what kept it from going on. It may be called again, but not where
// applications read: a REFRESH keeps readers waiting for as long as it takes.
func RefreshMatViews(ctx context.Context, conn *pgx.Conn, views []catalog.MatView, path string) (refused []*Error, err error) {
	for _, v := range views {
		if !v.Populated {
			continue
		}
		err := FillMatView(ctx, conn, v, path)
		var one *Error
		switch {
		case err == nil:
		case conn.IsClosed() || ctx.Err() != nil || !errors.As(err, &one) || !RefusedForGood(err):
			return refused, err
		default:
			refused = append(refused, one)
		}
	}
	return refused, nil
}

// FillMatView fills a materialised view and gives the planner its statistics, or empties
// it where it is not populated on the source. Its query is evaluated under path, a search_path as
// SET takes it, "" for none.
func FillMatView(ctx context.Context, conn *pgx.Conn, v catalog.MatView, path string) error {
	s := plan.Statement{Path: path, Kind: "MATERIALIZED VIEW DATA", Schema: v.Schema, Name: v.Rel, SQL: "REFRESH MATERIALIZED VIEW " + v.Name().String()}
	if v.Populated {
		s.SQL += ";\nANALYZE " + v.Name().String()
	} else {
		s.SQL += " WITH NO DATA"
	}
	if err := runPatiently(ctx, conn, s, AfterConfig{}); err != nil {
		return failed(s, err)
	}
	return nil
}

// failed makes an error that names the statement's object.
func failed(s plan.Statement, err error) *Error {
	refused := &pgconn.PgError{Message: err.Error()}
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		refused = pe
	}
	return &Error{Err: err, Finding: finding.Finding{ID: s.ID, Kind: s.Kind, Schema: s.Schema, Name: s.Name,
		Message: refused.Message, SQLSTATE: refused.Code}, Statement: s}
}

const (
	// afterLockTimeout is how long the first tries of a statement wait for its locks: the
	// application's statements queue up for as long.
	afterLockTimeout = 200 * time.Millisecond
	// afterShortTries is how many tries wait so long; each later one waits for twice as long, up to
	// three quarters of the server's deadlock_timeout: a session of the application that waits for
	// longer may be ended.
	afterShortTries = 5
	// afterPause is how many times as long as it has waited a statement leaves the application
	// alone, and afterQuietPause for how long after the application was held for it.
	afterPause      = 4
	afterQuietPause = 10 * time.Second
	// afterPatience bounds the tries for one statement: they last for longer than an application's
	// long transaction.
	afterPatience = 10 * time.Minute
	// domainTimeout bounds the validation of a domain's constraint, for which PostgreSQL
	// keeps the writers of every table with such a column waiting.
	domainTimeout = time.Second
	// defaultDeadlockTimeout is PostgreSQL's own.
	defaultDeadlockTimeout = time.Second
)

// AfterConfig says what RunAfter asks of its caller. Nothing of it is needed.
type AfterConfig struct {
	// Waits is told each time that a statement was not granted its locks.
	Waits func(plan.Statement)
	// Quiet calls lock once in a moment in which the application holds no locks, as far as that can
	// be had, and returns its error. held is false where it kept nobody waiting. It is asked once
	// the statement's writers have left it no moment.
	Quiet func(ctx context.Context, s plan.Statement, lock func(context.Context) error) (held bool, err error)
}

// RunAfter executes the statements that follow a decision while applications write to the target:
// each in a transaction of its own, with a short wait for locks that is repeated. What an earlier
// call has done is skipped. It continues after a statement that the target refuses, and returns the
// refusals, in the order of the statements. The error is what kept it from continuing, such as a
// lost connection.
func RunAfter(ctx context.Context, conn *pgx.Conn, statements []plan.Statement, cfg AfterConfig) (refused []*Error, err error) {
	for _, s := range statements {
		err := runPatiently(ctx, conn, s, cfg)
		switch {
		case err == nil:
		case conn.IsClosed() || ctx.Err() != nil || !RefusedForGood(err) && !pg.IsCode(err, pg.CodeDeadlockDetected, pg.CodeQueryCanceled):
			return refused, failed(s, err)
		default:
			refused = append(refused, failed(s, err))
		}
	}
	return refused, nil
}

// locksWriters reports whether a statement keeps writers waiting for as long as it reads
// tables: the validation of a domain's constraint.
func locksWriters(s plan.Statement) bool {
	return s.Kind == "VALIDATE" && strings.HasPrefix(s.SQL, "ALTER DOMAIN")
}

func runPatiently(ctx context.Context, conn *pgx.Conn, s plan.Statement, cfg AfterConfig) error {
	end := time.Now().Add(afterPatience)
	wait, most := afterLockTimeout, time.Duration(0)
	for n := 1; ; n++ {
		held := false
		take := func(ctx context.Context, lock func(context.Context) error) (err error) {
			if n <= afterShortTries || cfg.Quiet == nil {
				return lock(ctx)
			}
			held, err = cfg.Quiet(ctx, s, lock)
			return err
		}
		locked, err := try(ctx, s, conn, n, wait, take)
		switch {
		case err == nil:
			return nil
		case s.Kind == "FK CONSTRAINT" && pg.IsCode(err, pg.CodeDuplicateObject):
			return nil // an earlier call has added it
		case !locked && !pg.IsCode(err, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected):
			return err
		case time.Now().After(end):
			return &pgconn.PgError{Code: pg.CodeLockNotAvailable, Message: fmt.Sprintf("its locks were not granted in %v: %v", afterPatience, err)}
		}
		if cfg.Waits != nil {
			cfg.Waits(s)
		}
		if err := retry.Sleep(ctx, restAfter(wait, held)); err != nil {
			return err
		}
		if n < afterShortTries {
			continue
		}
		if most == 0 {
			most = mostLockWait(ctx, conn)
		}
		wait = longerWait(wait, most)
	}
}

// restAfter is for how long the application is left alone after a wait, and after it was held for
// one.
func restAfter(wait time.Duration, held bool) time.Duration {
	if held {
		return max(afterPause*wait, afterQuietPause)
	}
	return afterPause * wait
}

// longerWait is the wait after one that was too short. most bounds what it adds.
func longerWait(wait, most time.Duration) time.Duration { return max(wait, min(2*wait, most)) }

// mostLockWait is for how long a statement may wait for locks with no session of the application
// ended as the one that closes a deadlock: never above what the default of deadlock_timeout allows,
// since the application waits as well.
func mostLockWait(ctx context.Context, conn *pgx.Conn) time.Duration {
	detected := defaultDeadlockTimeout
	var ms int64
	if err := conn.QueryRow(ctx, `SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'`).Scan(&ms); err == nil {
		detected = time.Duration(ms) * time.Millisecond
	}
	return min(detected, defaultDeadlockTimeout) * 3 / 4
}

// try executes the statement once, in a transaction that is rolled back where it fails. Its locks
// are taken first, in an order that each try turns round: writers that take them in the other one
// would wait for it while it waits for them. They are taken in a call of take. locked reports that
// these were not granted in the time.
func try(ctx context.Context, s plan.Statement, conn *pgx.Conn, n int, wait time.Duration, take func(ctx context.Context, lock func(context.Context) error) error) (locked bool, err error) {
	begin := fmt.Sprintf("BEGIN;\nSET LOCAL search_path = %s;\nSET LOCAL lock_timeout = %d", cmp.Or(s.Path, "''"), wait.Milliseconds())
	run := s.SQL + "\n;\nCOMMIT"
	if locksWriters(s) { // who waits meanwhile is the application
		begin += fmt.Sprintf(";\nSET LOCAL statement_timeout = %d", domainTimeout.Milliseconds())
	}
	if len(s.Locks) > 0 {
		run = "SET LOCAL statement_timeout = 0;\n" + run
	}
	err = pg.Exec(ctx, conn, begin)
	if err == nil && len(s.Locks) > 0 {
		err = take(ctx, func(ctx context.Context) error { return takeLocks(ctx, conn, lockSQL(s, n%2 == 0), wait) })
		locked = pg.IsCode(err, pg.CodeQueryCanceled)
	}
	if err == nil {
		err = pg.Exec(ctx, conn, run)
	}
	if err != nil && conn.PgConn().TxStatus() != 'I' && !conn.IsClosed() {
		if back := pg.Exec(ctx, conn, "ROLLBACK"); back != nil {
			return locked, fmt.Errorf("roll back after %w: %w", err, back)
		}
	}
	return locked, err
}

// takeLocks takes locks, all of them within wait: lock_timeout bounds the wait for one table, and a
// partitioned one has many.
func takeLocks(ctx context.Context, conn *pgx.Conn, locks []string, wait time.Duration) error {
	end := time.Now().Add(wait)
	for _, sql := range locks {
		left := max(time.Until(end), time.Millisecond)
		if err := pg.Exec(ctx, conn, fmt.Sprintf("SET LOCAL statement_timeout = %d;\n%s", left.Milliseconds(), sql)); err != nil {
			return err
		}
	}
	return nil
}

// lockSQL are the statements that take a statement's locks, those of partitions with their table's,
// and each at once in the mode that the statement needs: see plan.Statement.Exclusive.
func lockSQL(s plan.Statement, reverse bool) []string {
	var locks []string
	for _, t := range s.Locks {
		mode := "SHARE ROW EXCLUSIVE"
		if slices.Contains(s.Exclusive, t) {
			mode = "ACCESS EXCLUSIVE"
		}
		locks = append(locks, "LOCK TABLE "+t.String()+" IN "+mode+" MODE")
	}
	if reverse {
		slices.Reverse(locks)
	}
	return locks
}
