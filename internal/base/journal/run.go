package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
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
	return there, pg.Wrap(err, "look for schema crossfade")
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
	return pg.Wrap(err, "make schema crossfade")
}

func scanRun(row pgx.Row) (r SourceRun, err error) {
	err = row.Scan(&r.RunID, &r.Direction, &r.Epoch, &r.Step, &r.Coordinator, &r.Nonce)
	return r, err
}

// LoadSource reads the source's run row. It returns nil where there is no run.
func LoadSource(ctx context.Context, q Querier) (*SourceRun, error) {
	there, err := Installed(ctx, q)
	if err != nil || !there {
		return nil, err
	}
	r, err := scanRun(q.QueryRow(ctx, `SELECT run_id, direction, epoch, step, coordinator, nonce FROM crossfade.run`))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read crossfade.run on the source: %w", unfit(ctx, q, "source", "relation", err))
	}
	return &r, nil
}

// ReadRow reads the columns of the run row that both sides have, nil where there is no run.
func ReadRow(ctx context.Context, q Querier) (*SourceRun, error) {
	r, err := scanRun(q.QueryRow(ctx, `SELECT run_id, direction, epoch, step, coordinator, nonce FROM crossfade.run`))
	if errors.Is(err, pgx.ErrNoRows) || pg.IsCode(err, pg.CodeUndefinedTable) {
		return nil, nil
	}
	return &r, pg.Wrap(err, "read crossfade.run")
}

// Take makes owner the owner of the run and returns what the row says. It waits for writers of the
// row that are in flight; none that began before it can succeed afterwards.
func Take(ctx context.Context, q Querier, owner string) (SourceRun, error) {
	r, err := scanRun(q.QueryRow(ctx, `UPDATE crossfade.run SET coordinator = $1
		RETURNING run_id, direction, epoch, step, coordinator, nonce`, owner))
	if errors.Is(err, pgx.ErrNoRows) {
		return SourceRun{}, ErrMoved
	}
	return r, pg.Wrap(err, "take the run")
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
	return AdvanceFrom(ctx, q, epoch, owner, []string{from}, to)
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
	return pg.Wrap(err, "%s", what)
}

// Opened returns the statement, of the decision's transaction, that records in the row of the side
// that opens that the epoch was decided. A newer epoch in the row makes it fail: of a side that is
// closed, nobody can have claimed one.
func Opened(epoch int64, direction, nonce string) string {
	return fmt.Sprintf(`WITH opened AS (UPDATE crossfade.run SET epoch = %[1]d, direction = %[2]s, step = 'decided', nonce = %[3]s, fence = '', changed_at = pg_catalog.clock_timestamp()
		WHERE epoch < %[1]d RETURNING 1) SELECT 1 / (pg_catalog.count(*))::pg_catalog.int4 FROM opened;`, epoch, pg.QuoteLiteral(direction), pg.QuoteLiteral(nonce))
}

// PassiveFor locks the row of the side that is to be made passive, in the caller's transaction, and
// reports whether that was done before for this epoch.
func PassiveFor(ctx context.Context, q Querier, epoch int64) (done bool, err error) {
	err = q.QueryRow(ctx, `SELECT passive >= $1 FROM crossfade.run FOR UPDATE`, epoch).Scan(&done)
	return done, pg.Wrap(err, "read whether this side is passive")
}

// SetPassive records, in the transaction that makes this side passive, for which epoch that is.
func SetPassive(ctx context.Context, q Querier, epoch int64) error {
	var one bool
	err := q.QueryRow(ctx, `UPDATE crossfade.run SET passive = $1 RETURNING one`, epoch).Scan(&one)
	return pg.Wrap(err, "record that this side is passive")
}

// WasPassive reports whether this side has been made passive since the run began.
func WasPassive(ctx context.Context, q Querier) (was bool, err error) {
	err = q.QueryRow(ctx, `SELECT passive > 0 FROM crossfade.run`).Scan(&was)
	return was, pg.Wrap(err, "read whether this side was passive")
}

// Uninstall drops the schema crossfade. Fence triggers must be gone.
func Uninstall(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `DROP SCHEMA IF EXISTS crossfade CASCADE`)
	return pg.Wrap(err, "drop schema crossfade")
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
		return pg.Exec(ctx, tx.Conn(), ClosedFence+`UPDATE crossfade.run SET step = 'finished'; DROP TABLE crossfade.backend, crossfade.marker, crossfade.progress, crossfade.decision, crossfade.reaction;
			COMMENT ON SCHEMA crossfade IS 'This database was moved by Crossfade and takes no writes any more. "crossfade clean --force" opens it and removes this schema.'`)
	})
	return err == nil, pg.Wrap(err, "keep the source closed")
}

// Tables lists the relations of the database that a fence covers: plain and
// partitioned tables of the application, in the order in which locks are taken.
func Tables(ctx context.Context, conn *pgx.Conn) ([]pg.Name, error) {
	names, err := pg.Rows(ctx, conn, pgx.RowToStructByPos[pg.Name], `SELECT n.nspname, c.relname
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
		  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'crossfade') AND n.nspname !~ '^pg_'
		  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
			WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
		ORDER BY n.nspname, c.relname`)
	return names, pg.Wrap(err, "list tables")
}

// TargetRun is the row crossfade.run of the target.
type TargetRun struct {
	RunID, Key     string
	Mode           string // "run" or "copy"
	Options        string // of a copy: the flags that decide on its result
	SourceSystem   string // system identifier of the source's cluster
	SourceDatabase string
	Slot           string
	Phase          Phase
	Consistent     pg.LSN // the slot's consistent point
	SlotSnapshot   string // what the slot's own snapshot sees, as pg_current_snapshot() prints it
	Archive        []byte // pg_dump's archive of the schema, nil before it was taken
	ArchiveNow     []byte // a newer one, nil where nothing has changed since
	Digest         string // of the source's definitions as the newest archive has them
	Roles          string // what the source's roles were with the first archive
}

// Phase is how far a run is before the first cutover.
type Phase string

// The phases, in order. Each is recorded when what its name says has been done.
const (
	PhaseStarted  Phase = "started"  // both schemas crossfade are there
	PhaseSlotted  Phase = "slotted"  // publication and slot are there
	PhaseDumped   Phase = "dumped"   // the archive is kept
	PhasePrepared Phase = "prepared" // pre-data is restored, the target is fenced
	PhaseCopied   Phase = "copied"   // every relation is copied
	PhaseIndexed  Phase = "indexed"  // indexes and constraints exist, the target is analysed
	PhaseSwitched Phase = "switched" // a decision has opened the target
	PhaseValid    Phase = "valid"    // foreign keys are validated, the last part is restored
	PhaseFinished Phase = "finished"
)

var phaseOrder = []Phase{PhaseStarted, PhaseSlotted, PhaseDumped, PhasePrepared, PhaseCopied, PhaseIndexed, PhaseSwitched, PhaseValid, PhaseFinished}

// AtLeast reports whether p has come as far as q.
func (p Phase) AtLeast(q Phase) bool { return rank(p) >= rank(q) }

func rank(p Phase) int { return slices.Index(phaseOrder, p) }

// InstallTarget makes the schema on the target with its run row.
func InstallTarget(ctx context.Context, conn *pgx.Conn, r TargetRun) error {
	return install(ctx, conn, TargetDDL,
		`INSERT INTO crossfade.run (run_id, key, key_digest, mode, options, source_system, source_database, slot) VALUES ($1, $2, `+keyDigest+`$2::text, 'UTF8')), $3, $4, $5, $6, $7)`,
		r.RunID, r.Key, r.Mode, r.Options, r.SourceSystem, r.SourceDatabase, r.Slot)
}

// LoadTarget reads the target's run row, nil where there is no run.
func LoadTarget(ctx context.Context, q Querier) (*TargetRun, error) {
	there, err := Installed(ctx, q)
	if err != nil || !there {
		return nil, err
	}
	var r TargetRun
	var consistent *pg.LSN
	err = q.QueryRow(ctx, `SELECT run_id, key, mode, options, source_system, source_database, slot, phase, consistent_point::text, slot_snapshot, archive,
		archive_now, digest, roles FROM crossfade.run`).
		Scan(&r.RunID, &r.Key, &r.Mode, &r.Options, &r.SourceSystem, &r.SourceDatabase, &r.Slot, &r.Phase, &consistent, &r.SlotSnapshot, &r.Archive, &r.ArchiveNow, &r.Digest, &r.Roles)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read crossfade.run on the target: %w", unfit(ctx, q, "target", "marker", err))
	}
	if consistent != nil {
		r.Consistent = *consistent
	}
	return &r, nil
}

// SetPhase records a phase that was reached.
func SetPhase(ctx context.Context, conn *pgx.Conn, p Phase) error {
	if rank(p) < 0 {
		return fmt.Errorf("record phase %q: no such phase", p)
	}
	_, err := conn.Exec(ctx, `UPDATE crossfade.run SET phase = $1, changed_at = pg_catalog.clock_timestamp() WHERE phase <> $2`, string(p), string(PhaseFinished))
	return pg.Wrap(err, "record phase %s", p)
}

// RecopyTable takes the run back to the phase PhasePrepared, and one table to where the copy
// begins it again. The others stay copied.
func RecopyTable(ctx context.Context, conn *pgx.Conn, schema, table string) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM crossfade.chunk c USING crossfade.relation r WHERE c.relid = r.relid AND r.nsp = $1 AND r.rel = $2`, schema, table); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE crossfade.relation SET state = 'copying', snapshot = NULL WHERE nsp = $1 AND rel = $2`, schema, table); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE crossfade.run SET phase = $1, changed_at = pg_catalog.clock_timestamp()`, string(PhasePrepared))
		return err
	})
	return pg.Wrap(err, "have table %s.%s copied again", schema, table)
}

// SetSlot records the slot's consistent point and what its snapshot sees, with
// the phase PhaseSlotted.
func SetSlot(ctx context.Context, conn *pgx.Conn, slot string, consistent pg.LSN, snapshot string) error {
	_, err := conn.Exec(ctx, `UPDATE crossfade.run SET slot = $1, consistent_point = $2::pg_catalog.pg_lsn, slot_snapshot = $3, phase = $4`,
		slot, consistent.String(), snapshot, string(PhaseSlotted))
	return pg.Wrap(err, "record slot %s", slot)
}

// remains are the tables of the target's journal that stay when a run is finished: what serving
// the target needs when the program is started again, and what was proved.
var remains = []string{"run", "decision", "proof", "verification", "verified", "pin", "type", "role", "login"}

// Conclude leaves of the target's journal what serving the target needs, with the phase
// PhaseFinished, in one transaction; everything else of the schema is dropped. The fence's triggers
// must be gone. What stays goes with Uninstall.
func Conclude(ctx context.Context, conn *pgx.Conn) error {
	names := lists.Map(remains, pg.QuoteLiteral)
	err := pg.Exec(ctx, conn, strings.ReplaceAll(concludeSQL, "$remains", strings.Join(names, ", ")))
	return pg.Wrap(err, "reduce schema crossfade to what serving needs")
}

const concludeSQL = `DO $conclude$
DECLARE it record;
BEGIN
	FOR it IN SELECT c.relname FROM pg_catalog.pg_class c
		WHERE c.relnamespace = 'crossfade'::pg_catalog.regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> ALL (ARRAY[$remains]) LOOP
		EXECUTE pg_catalog.format('DROP TABLE IF EXISTS crossfade.%I CASCADE', it.relname);
	END LOOP;
	FOR it IN SELECT p.oid::pg_catalog.regprocedure::text AS name FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'crossfade'::pg_catalog.regnamespace LOOP
		EXECUTE 'DROP ROUTINE IF EXISTS ' || it.name || ' CASCADE';
	END LOOP;
	UPDATE crossfade.run SET phase = 'finished', archive = NULL, archive_now = NULL, digest = '', roles = '', fingerprint = '', publication = '',
		slot_snapshot = '', changed_at = pg_catalog.clock_timestamp();
	COMMENT ON SCHEMA crossfade IS 'A migration by Crossfade that is finished. It has what "crossfade run" needs to serve this database when it is started again; "crossfade clean" removes it.';
END
$conclude$`
