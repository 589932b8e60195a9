package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/pg"
)

// ErrMoved says that a compare-and-set found another epoch, step or
// coordinator: somebody else acts on this run.
var ErrMoved = errors.New("the run has moved on without us: another Crossfade process acts on it")

// SourceRun is the row crossfade.run of the source.
type SourceRun struct {
	RunID, Key  string
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

// InstallSource makes the schema on the source with its run row, in one
// transaction.
func InstallSource(ctx context.Context, conn *pgx.Conn, run SourceRun) error {
	return install(ctx, conn, SourceDDL, `INSERT INTO crossfade.run (run_id, key) VALUES ($1, $2)`, run.RunID, run.Key)
}

func install(ctx context.Context, conn *pgx.Conn, ddl, insert string, args ...any) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := conn.PgConn().Exec(ctx, ddl).ReadAll(); err != nil {
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
	err = q.QueryRow(ctx, `SELECT run_id, key, direction, epoch, step, coordinator, nonce FROM crossfade.run`).
		Scan(&r.RunID, &r.Key, &r.Direction, &r.Epoch, &r.Step, &r.Coordinator, &r.Nonce)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read crossfade.run on the source: %w", err)
	}
	return &r, nil
}

// Claim begins the epoch after the given one for the coordinator. The run must
// be idle.
func Claim(ctx context.Context, q Querier, after int64, coordinator, nonce string) (int64, error) {
	var epoch int64
	err := q.QueryRow(ctx, `UPDATE crossfade.run
		SET epoch = epoch + 1, step = 'arming', coordinator = $2, nonce = $3, changed_at = pg_catalog.clock_timestamp()
		WHERE epoch = $1 AND step = 'idle' RETURNING epoch`, after, coordinator, nonce).Scan(&epoch)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, ErrMoved
	}
	if err != nil {
		return 0, fmt.Errorf("claim epoch %d: %w", after+1, err)
	}
	return epoch, nil
}

// Advance records the next step of an epoch: a compare-and-set on epoch, step
// and coordinator.
func Advance(ctx context.Context, q Querier, epoch int64, coordinator, from, to string) error {
	var one bool
	err := q.QueryRow(ctx, `UPDATE crossfade.run SET step = $4, changed_at = pg_catalog.clock_timestamp()
		WHERE epoch = $1 AND coordinator = $2 AND step = $3 RETURNING one`, epoch, coordinator, from, to).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrMoved
	}
	if err != nil {
		return fmt.Errorf("record step %s of epoch %d: %w", to, epoch, err)
	}
	return nil
}

// TakeOver makes the coordinator the owner of the run as it stands. The caller
// holds the run's advisory lock (Lead), so no other coordinator is alive.
func TakeOver(ctx context.Context, q Querier, epoch int64, step, coordinator string) error {
	var one bool
	err := q.QueryRow(ctx, `UPDATE crossfade.run SET coordinator = $3 WHERE epoch = $1 AND step = $2 RETURNING one`,
		epoch, step, coordinator).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrMoved
	}
	if err != nil {
		return fmt.Errorf("take over epoch %d: %w", epoch, err)
	}
	return nil
}

// leadKey is the advisory lock by which one process leads the runs of a
// database: "xfade" in ASCII.
const leadKey = 0x7866616465

// Lead takes the advisory lock that keeps two Crossfade processes from acting
// on one database. It is held as long as conn lives. It only avoids trouble:
// safety rests on the compare-and-sets.
func Lead(ctx context.Context, conn *pgx.Conn) error {
	var ok bool
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_try_advisory_lock($1)`, int64(leadKey)).Scan(&ok); err != nil {
		return fmt.Errorf("ask for the leader's lock: %w", err)
	}
	if !ok {
		return errors.New("another Crossfade process works on this database: stop it first, or wait until its session has ended")
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

// Tables lists the relations of the database that a fence covers: plain and
// partitioned tables of the application, in the order in which locks are taken.
func Tables(ctx context.Context, conn *pgx.Conn) ([]pg.Name, error) {
	rows, err := conn.Query(ctx, `SELECT n.nspname, c.relname
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
		  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'crossfade') AND n.nspname !~ '^pg_'
		  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
			WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
		ORDER BY n.nspname, c.relname`)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
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
