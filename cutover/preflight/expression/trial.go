package expression

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

	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

const (
	// expressionRows is for how many rows of its relation an expression is evaluated. A name
	// that is not found is missed at the first row for which the function is called.
	expressionRows = 1000
	// expressionTimeout bounds each evaluation, and expressionsTimeout all of them, well below
	// CheckTimeout.
	expressionTimeout  = 2 * time.Second
	expressionsTimeout = 12 * time.Second
	// restrictedPath is the search_path of PostgreSQL 17 and later in commands that maintain
	// objects.
	restrictedPath      = "pg_catalog, pg_temp"
	restrictsSearchPath = 170000
)

// outcome is what an evaluation of an expression on the source has given.
type outcome struct {
	Values string          // a digest
	Said   *pgconn.PgError // that a name was not found; nil for none
	Cause  *pgconn.PgError // why it was not possible to say
	Unseen bool            // it was not possible to say: without a right, in time, or for another reason
}

func (o outcome) missesName() bool { return o.Said != nil }

// notFound are the SQLSTATEs of names that are not found: function, table, column, object, schema.
var notFound = []string{"42883", pg.CodeUndefinedTable, pg.CodeUndefinedColumn, pg.CodeUndefinedObject, "3F000"}

// trials evaluates expressions on the source, in transactions that write nothing and are rolled
// back, on a session of its own. It executes what the role of that session, or a superuser, has
// written, and nothing else: policies of row security neither.
type trials struct {
	conn *pgx.Conn
	path string // effective search_path of the source's role, as SET takes it
	end  time.Time
}

// openTrials opens the session, which the caller closes.
func openTrials(ctx context.Context, p *inquiry.Pair) (*trials, error) {
	conn, err := p.Options.OpenSource(ctx)
	if err != nil {
		return nil, err
	}
	t := &trials{conn: conn, end: time.Now().Add(expressionsTimeout)}
	path, err := inquiry.Value[string](ctx, conn, "search_path", `SELECT coalesce(pg_catalog.string_agg(pg_catalog.quote_ident(s), ', ' ORDER BY i), '')
		FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS x (s, i)`)
	if err == nil {
		t.path = path
		_, err = conn.Exec(ctx, "SET search_path = pg_catalog")
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return t, nil
}

// trialLockTimeout bounds how long a trial waits for a lock: others queue after it.
const trialLockTimeout = 200 * time.Millisecond

func (t *trials) close(ctx context.Context) { _ = t.conn.Close(context.WithoutCancel(ctx)) }

// tried is what came of one expression.
type tried struct {
	own        outcome // under the source's search_path
	restricted outcome
	others     []pg.Name // other tables that it has read
}

// try evaluates one expression under the source's path and, where that matters, under the
// restricted one.
func (t *trials) try(ctx context.Context, e evaluated, restricted bool) (tried, error) {
	var out tried
	if time.Now().After(t.end) {
		out.own.Unseen = true
		return out, nil
	}
	err := within(ctx, t.conn, func(tx pgx.Tx) error { return t.both(ctx, tx, e, restricted, &out) })
	if err == nil && len(out.others) == 0 && e.Nulls != "" && !out.own.Unseen {
		// The planner may have inlined the function for any query of the table.
		err = within(ctx, t.conn, func(tx pgx.Tx) (err error) {
			alone := e
			alone.Relation, alone.Partitioned = e.Nulls, true
			if _, err = t.evaluate(ctx, tx, t.path, alone); err == nil {
				out.others, err = t.locked(ctx, tx)
			}
			return err
		})
	}
	var said *pgconn.PgError
	if errors.As(err, &said) && !pg.ConnectionLost(err) { // a lock is not to be had, or a right
		out.own.Unseen, out.own.Cause = true, said
		err = nil
	}
	return out, err
}

// both evaluates an expression under the source's path and then, where that matters, under the
// restricted one.
func (t *trials) both(ctx context.Context, tx pgx.Tx, e evaluated, restricted bool, out *tried) error {
	if e.Kind != ofMatView {
		if _, err := t.evaluate(ctx, tx, t.path, evaluated{Name: e.Name, Expr: "NULL", Relation: e.rows()}); err != nil {
			return err
		}
	}
	before, err := t.locked(ctx, tx)
	if err != nil {
		return err
	}
	if out.own, err = t.evaluate(ctx, tx, t.path, e); err != nil {
		return err
	}
	after, err := t.locked(ctx, tx)
	if err != nil {
		return err
	}
	out.others = slices.DeleteFunc(after, func(n pg.Name) bool { return slices.Contains(before, n) })
	if restricted {
		out.restricted, err = t.evaluate(ctx, tx, restrictedPath, e)
	}
	return err
}

// under evaluates an expression under one path.
func (t *trials) under(ctx context.Context, path string, e evaluated) (o outcome, err error) {
	err = within(ctx, t.conn, func(tx pgx.Tx) (err error) {
		o, err = t.evaluate(ctx, tx, path, e)
		return err
	})
	return o, err
}

func within(ctx context.Context, conn *pgx.Conn, f func(pgx.Tx) error) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("begin a trial: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d; SET LOCAL lock_timeout = %d; SET LOCAL synchronize_seqscans = off; SET LOCAL row_security = off",
		expressionTimeout.Milliseconds(), trialLockTimeout.Milliseconds()), pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	return f(tx)
}

// rowsOf is the FROM of an expression's rows.
func (e evaluated) rows() string {
	if e.Kind == ofIndex && !e.Partitioned {
		return "ONLY " + e.Relation
	}
	return e.Relation
}

// locked lists the tables that the transaction has locked: all tables that it has read.
func (t *trials) locked(ctx context.Context, tx pgx.Tx) ([]pg.Name, error) {
	return pg.Rows(ctx, tx, pgx.RowToStructByPos[pg.Name], `SELECT DISTINCT n.nspname::text, c.relname::text FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
			AND c.relkind IN ('r', 'p', 'f', 'm') AND n.nspname <> 'pg_catalog' ORDER BY 1, 2`, pgx.QueryExecModeSimpleProtocol)
}

// evaluate evaluates an expression for some rows, inside of a savepoint where that fails.
func (t *trials) evaluate(ctx context.Context, tx pgx.Tx, path string, e evaluated) (o outcome, err error) {
	path = cmp.Or(path, "''")
	sql := fmt.Sprintf("SELECT %s AS e FROM %s LIMIT %d", e.Expr, e.rows(), expressionRows)
	if e.Kind == ofPartition { // a list
		sql = fmt.Sprintf("SELECT ROW(%s) AS e FROM %s LIMIT %d", e.Expr, e.rows(), expressionRows)
	}
	if e.Kind == ofMatView {
		sql = "SELECT * FROM (" + strings.TrimSuffix(strings.TrimSpace(e.Expr), ";") + ") v LIMIT 1"
	}
	if _, err := tx.Exec(ctx, "SAVEPOINT trial; SET LOCAL search_path = "+path, pgx.QueryExecModeSimpleProtocol); err != nil {
		return o, err
	}
	err = tx.QueryRow(ctx, "SELECT coalesce(pg_catalog.md5(pg_catalog.string_agg(x::pg_catalog.text, ',')), '') FROM ("+sql+") x", pgx.QueryExecModeSimpleProtocol).Scan(&o.Values)
	var said *pgconn.PgError
	switch {
	case err == nil:
		_, err = tx.Exec(ctx, "SET LOCAL search_path = pg_catalog")
		return o, err
	case !errors.As(err, &said) || pg.ConnectionLost(err):
		return o, fmt.Errorf("evaluate an expression of %s: %w", e.Name, err)
	case slices.Contains(notFound, said.Code):
		o.Said = said
	default:
		o.Unseen, o.Cause = true, said
	}
	_, err = tx.Exec(ctx, "ROLLBACK TO SAVEPOINT trial; SET LOCAL search_path = pg_catalog", pgx.QueryExecModeSimpleProtocol)
	return o, err
}
