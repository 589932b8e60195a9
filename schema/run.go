package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/pg"
	"crossfade/schema/catalog"
)

const (
	// afterLockTimeout keeps a statement that waits for a lock from stopping the
	// application's statements, which would queue up behind it.
	afterLockTimeout = 200 * time.Millisecond
	// afterAttempts bounds the tries for one lock: with the pauses between them
	// they last for about ten minutes, longer than an application's long transaction.
	afterAttempts = 600
	// domainTimeout bounds the validation of a domain's constraint, for which PostgreSQL
	// keeps the writers of every table with such a column waiting.
	domainTimeout = time.Second
	// afterPause lets the application go on between two tries.
	afterPause = 800 * time.Millisecond
)

// Run executes statements on conn one by one, in the caller's transaction where
// one is open. It is what a decision, or the step after pre-data, calls.
func Run(ctx context.Context, conn *pgx.Conn, statements []Statement) error {
	for _, s := range statements {
		if err := execute(ctx, conn, s.SQL); err != nil {
			return s.failed(err)
		}
	}
	return nil
}

// RunAfter executes the statements that follow a decision while applications
// write to the target: each in a transaction of its own, with a short wait for
// locks that is repeated. What was done by an earlier call is passed over. It goes on after
// a statement that the target refuses, and returns the refusals, in the statements' order. The
// error is what kept it from going on: a lost connection, say.
func RunAfter(ctx context.Context, conn *pgx.Conn, statements []Statement) (refused []*RestoreError, err error) {
	for _, s := range statements {
		err := runPatiently(ctx, conn, s)
		switch {
		case err == nil:
		case conn.IsClosed() || ctx.Err() != nil || !RefusedForGood(err) && !pg.IsCode(err, pg.CodeDeadlockDetected, pg.CodeQueryCanceled):
			return refused, s.failed(err)
		default:
			refused = append(refused, s.failed(err))
		}
	}
	return refused, nil
}

// locksWriters reports whether a statement keeps writers waiting for as long as it reads
// tables: the validation of a domain's constraint.
func (s Statement) locksWriters() bool {
	return s.Kind == "VALIDATE" && strings.HasPrefix(s.SQL, "ALTER DOMAIN")
}

func runPatiently(ctx context.Context, conn *pgx.Conn, s Statement) error {
	path := "''"
	if s.Path != "" {
		path = s.Path
	}
	limit := ""
	if s.locksWriters() { // who waits meanwhile is the application
		limit = fmt.Sprintf("SET LOCAL statement_timeout = %d;\n", domainTimeout.Milliseconds())
	}
	sql := fmt.Sprintf("BEGIN;\nSET LOCAL search_path = %s;\nSET LOCAL lock_timeout = %d;\n%s%s\n;\nCOMMIT", path, afterLockTimeout.Milliseconds(), limit, s.SQL)
	for n := 1; ; n++ {
		err := execute(ctx, conn, sql)
		if err == nil {
			return nil
		}
		if conn.PgConn().TxStatus() != 'I' && !conn.IsClosed() {
			if back := execute(ctx, conn, "ROLLBACK"); back != nil {
				return fmt.Errorf("roll back after %w: %w", err, back)
			}
		}
		switch {
		case s.Kind == "FK CONSTRAINT" && pg.IsCode(err, pg.CodeDuplicateObject):
			return nil // an earlier call has added it
		case !pg.IsCode(err, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected) || n == afterAttempts:
			return err
		}
		if err := pause(ctx, afterPause); err != nil {
			return err
		}
	}
}

// RefreshMatViews fills the materialised views that are populated on the
// source, those that others read first. It tries all of them and returns what the target
// has refused; the error is what kept it from going on. It may be called again, but not where
// applications read: a REFRESH keeps readers waiting for as long as it takes.
func RefreshMatViews(ctx context.Context, conn *pgx.Conn, views []catalog.MatView, path string) (refused []*RestoreError, err error) {
	for _, v := range views {
		if !v.Populated {
			continue
		}
		err := FillMatView(ctx, conn, v, path)
		var one *RestoreError
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
	s := Statement{Path: path, Kind: "MATERIALIZED VIEW DATA", Schema: v.Schema, Name: v.Rel, SQL: "REFRESH MATERIALIZED VIEW " + v.Name().String()}
	if v.Populated {
		s.SQL += ";\nANALYZE " + v.Name().String()
	} else {
		s.SQL += " WITH NO DATA"
	}
	if err := runPatiently(ctx, conn, s); err != nil {
		return s.failed(err)
	}
	return nil
}

func execute(ctx context.Context, conn *pgx.Conn, sql string) error {
	_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// failed makes an error that names the statement's object.
func (s Statement) failed(err error) *RestoreError {
	refused := &pgconn.PgError{Message: err.Error()}
	if pe, ok := asPgError(err); ok {
		refused = pe
	}
	return &RestoreError{Err: err, Finding: Finding{ID: s.ID, Kind: s.Kind, Schema: s.Schema, Name: s.Name,
		Message: refused.Message, SQLSTATE: refused.Code}, Statement: s}
}
