package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

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

func rank(p Phase) int {
	for i, x := range phaseOrder {
		if x == p {
			return i
		}
	}
	return -1
}

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
	var lsn *string
	err = q.QueryRow(ctx, `SELECT run_id, key, mode, options, source_system, source_database, slot, phase, consistent_point::text, slot_snapshot, archive,
		archive_now, digest, roles FROM crossfade.run`).
		Scan(&r.RunID, &r.Key, &r.Mode, &r.Options, &r.SourceSystem, &r.SourceDatabase, &r.Slot, &r.Phase, &lsn, &r.SlotSnapshot, &r.Archive, &r.ArchiveNow, &r.Digest, &r.Roles)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read crossfade.run on the target: %w", unfit(ctx, q, "target", "backend", err))
	}
	if lsn != nil {
		if r.Consistent, err = pg.ParseLSN(*lsn); err != nil {
			return nil, err
		}
	}
	return &r, nil
}

// SetPhase records a phase that was reached.
func SetPhase(ctx context.Context, conn *pgx.Conn, p Phase) error {
	if rank(p) < 0 {
		return fmt.Errorf("record phase %q: no such phase", p)
	}
	if _, err := conn.Exec(ctx, `UPDATE crossfade.run SET phase = $1, changed_at = pg_catalog.clock_timestamp() WHERE phase <> $2`, string(p), string(PhaseFinished)); err != nil {
		return fmt.Errorf("record phase %s: %w", p, err)
	}
	return nil
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
	if err != nil {
		return fmt.Errorf("have table %s.%s copied again: %w", schema, table, err)
	}
	return nil
}

// SetSlot records the slot's consistent point and what its snapshot sees, with
// the phase PhaseSlotted.
func SetSlot(ctx context.Context, conn *pgx.Conn, slot string, consistent pg.LSN, snapshot string) error {
	if _, err := conn.Exec(ctx, `UPDATE crossfade.run SET slot = $1, consistent_point = $2::pg_catalog.pg_lsn, slot_snapshot = $3, phase = $4`,
		slot, consistent.String(), snapshot, string(PhaseSlotted)); err != nil {
		return fmt.Errorf("record slot %s: %w", slot, err)
	}
	return nil
}
