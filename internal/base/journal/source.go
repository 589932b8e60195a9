package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// ErrMoved says that a compare-and-set found another epoch, step or coordinator: someone else acts
// on this run.
var ErrMoved = errors.New("the run has moved on without us: another Crossfade process acts on it")

// ErrExchanged says that a database holds the journal of the other side.
var ErrExchanged = errors.New("its schema crossfade is that of the other side of a run: --source and --target are exchanged")

// StrangeError says that a database has a schema with the name of ours that contains no run.
type StrangeError struct {
	Side string // "source" or "target"
}

func (e *StrangeError) Error() string { return e.Detail() + "; " + e.Remedy() }

// Detail says what is there.
func (e *StrangeError) Detail() string {
	return "the " + e.Side + " has a schema " + Schema + " that holds no run"
}

// Remedy says what is done about it.
func (e *StrangeError) Remedy() string {
	return "on the " + e.Side + ": ALTER SCHEMA " + Schema + " RENAME TO another_name; or drop it, where nobody needs it"
}

// unfit explains a failed read of crossfade.run. has is a table that only the other side's journal
// has.
func unfit(ctx context.Context, q Querier, side, has string, err error) error {
	if !pg.IsCode(err, pg.CodeUndefinedColumn, pg.CodeUndefinedTable) {
		return err
	}
	var other, ours bool
	if q.QueryRow(ctx, `SELECT pg_catalog.to_regclass('crossfade.' || $1::text) IS NOT NULL,
		EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass('crossfade.run') AND attname = 'run_id')`, has).Scan(&other, &ours) != nil {
		return err
	}
	switch {
	case other && ours:
		return ErrExchanged
	case !ours:
		return &StrangeError{side}
	}
	return err
}

// SourceRun is the row crossfade.run of the source.
type SourceRun struct {
	RunID       string
	Key         string // for InstallSource alone: the row keeps its digest
	Direction   string // "forward" or "reverse"
	Epoch       int64
	Step        string // a step of the cutover
	Coordinator string // incarnation that claimed the epoch
	Nonce       string // of the epoch's marker
}

// Querier is what the journal needs of a session or a transaction.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Installed reports whether the schema crossfade is in the database.
func Installed(ctx context.Context, q Querier) (bool, error) {
	var there bool
	err := q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'crossfade')`).Scan(&there)
	if err != nil {
		return false, fmt.Errorf("look for schema crossfade: %w", err)
	}
	return there, nil
}

// InstallSource makes the schema on the source with its run row, in one transaction.
func InstallSource(ctx context.Context, conn *pgx.Conn, run SourceRun) error {
	return install(ctx, conn, SourceDDL, `INSERT INTO crossfade.run (run_id, key_digest) VALUES ($1, `+keyDigest+`$2::text, 'UTF8')))`, run.RunID, run.Key)
}

func install(ctx context.Context, conn *pgx.Conn, ddl, insert string, args ...any) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := pg.Exec(ctx, conn, ddl); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, insert, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("make schema crossfade: %w", err)
	}
	return nil
}

// LoadSource reads the source's run row. It returns nil where there is no run.
func LoadSource(ctx context.Context, q Querier) (*SourceRun, error) {
	there, err := Installed(ctx, q)
	if err != nil || !there {
		return nil, err
	}
	var r SourceRun
	err = q.QueryRow(ctx, `SELECT run_id, direction, epoch, step, coordinator, nonce FROM crossfade.run`).
		Scan(&r.RunID, &r.Direction, &r.Epoch, &r.Step, &r.Coordinator, &r.Nonce)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read crossfade.run on the source: %w", unfit(ctx, q, "source", "progress", err))
	}
	return &r, nil
}

// Take makes owner the owner of the run and returns what the row says. It waits for writers of the
// row that are in flight; none that began before it can succeed afterwards.
func Take(ctx context.Context, q Querier, owner string) (SourceRun, error) {
	var r SourceRun
	err := q.QueryRow(ctx, `UPDATE crossfade.run SET coordinator = $1
		RETURNING run_id, direction, epoch, step, coordinator, nonce`, owner).
		Scan(&r.RunID, &r.Direction, &r.Epoch, &r.Step, &r.Coordinator, &r.Nonce)
	if errors.Is(err, pgx.ErrNoRows) {
		return SourceRun{}, ErrMoved
	}
	if err != nil {
		return SourceRun{}, fmt.Errorf("take the run: %w", err)
	}
	return r, nil
}

// Claim begins an epoch: the row must be the owner's, show the previous epoch and be at one of the
// given steps.
func Claim(ctx context.Context, q Querier, epoch int64, direction, owner string, from []string) error {
	return compareAndSet(ctx, q, fmt.Sprintf("claim epoch %d", epoch),
		`UPDATE crossfade.run SET epoch = $1, direction = $2, step = 'arming', nonce = '', changed_at = pg_catalog.clock_timestamp()
		WHERE epoch = $1 - 1 AND coordinator = $3 AND step = ANY ($4) RETURNING one`, epoch, direction, owner, from)
}

// Advance records the next step of an epoch: a compare-and-set on epoch, step and owner.
func Advance(ctx context.Context, q Querier, epoch int64, owner, from, to string) error {
	return compareAndSet(ctx, q, fmt.Sprintf("record step %s of epoch %d", to, epoch),
		`UPDATE crossfade.run SET step = $4, changed_at = pg_catalog.clock_timestamp()
		WHERE epoch = $1 AND coordinator = $2 AND step = $3 RETURNING one`, epoch, owner, from, to)
}

// AdvanceFenced is Advance for the fence transaction: the row has the nonce of the marker from then
// on, so that a commit in doubt can be looked up, and the state of the fence, for FenceChanged.
func AdvanceFenced(ctx context.Context, q Querier, epoch int64, owner, from, to, nonce string) error {
	return compareAndSet(ctx, q, fmt.Sprintf("record step %s of epoch %d", to, epoch),
		`UPDATE crossfade.run SET step = $4, nonce = $5, fence = `+fenceMark+`, changed_at = pg_catalog.clock_timestamp()
		WHERE epoch = $1 AND coordinator = $2 AND step = $3 RETURNING one`, epoch, owner, from, to, nonce)
}

// AdvanceFrom is Advance from any of several steps.
func AdvanceFrom(ctx context.Context, q Querier, epoch int64, owner string, from []string, to string) error {
	return compareAndSet(ctx, q, fmt.Sprintf("record step %s of epoch %d", to, epoch),
		`UPDATE crossfade.run SET step = $4, changed_at = pg_catalog.clock_timestamp()
		WHERE epoch = $1 AND coordinator = $2 AND step = ANY ($3) RETURNING one`, epoch, owner, from, to)
}

func compareAndSet(ctx context.Context, q Querier, what, sql string, args ...any) error {
	var one bool
	err := q.QueryRow(ctx, sql, args...).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrMoved
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Uninstall drops the schema crossfade. Fence triggers must be gone.
func Uninstall(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `DROP SCHEMA IF EXISTS crossfade CASCADE`)
	if err != nil {
		return fmt.Errorf("drop schema crossfade: %w", err)
	}
	return nil
}

// KeepClosed leaves of the schema crossfade on the source what keeps its tables closed
// when the migration has been finished: the fence, and the run's row, which says why. It
// reports whether that was to be done.
func KeepClosed(ctx context.Context, conn *pgx.Conn) (done bool, err error) {
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.to_regclass('crossfade.backend') IS NOT NULL`).Scan(&done); err != nil {
		return false, fmt.Errorf("look for schema crossfade: %w", err)
	}
	if !done {
		return false, nil
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Conn().PgConn().Exec(ctx, ClosedFence+`DROP TABLE crossfade.backend; DROP TABLE crossfade.marker;
			COMMENT ON SCHEMA crossfade IS 'This database was moved by Crossfade and takes no writes any more. "crossfade clean --force" opens it and removes this schema.'`).ReadAll()
		return err
	})
	if err != nil {
		return false, fmt.Errorf("keep the source closed: %w", err)
	}
	return true, nil
}

// Tables lists the relations of the database that a fence covers: plain and
// partitioned tables of the application, in the order in which locks are taken.
func Tables(ctx context.Context, conn *pgx.Conn) ([]pg.Name, error) {
	rows, _ := conn.Query(ctx, `SELECT n.nspname, c.relname
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
		  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'crossfade') AND n.nspname !~ '^pg_'
		  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
			WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
		ORDER BY n.nspname, c.relname`)
	names, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (pg.Name, error) {
		var n pg.Name
		err := row.Scan(&n.Schema, &n.Name)
		return n, err
	})
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	return names, nil
}
