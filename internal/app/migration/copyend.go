package migration

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/replicate/copy"
	"crossfade/replicate/extras/sequence"
	"crossfade/replicate/snapshot"
	"crossfade/schema/archive"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
	"crossfade/schema/roles"
)

// EndCopy makes the target whole and removes our schema from it.
func (m *Migration) EndCopy(ctx context.Context, source, target *pgx.Conn) error {
	var snapshots int
	if err := target.QueryRow(ctx, `SELECT count(DISTINCT snapshot) FROM crossfade.relation`).Scan(&snapshots); err != nil {
		return fmt.Errorf("check the snapshots: %w", err)
	}
	if snapshots > 1 && !m.Task.Options.KeepCopied {
		return errors.New("the tables on the target are not of one moment: start over with crossfade clean, or accept it with --keep-copied")
	}
	if _, err := journal.DropFence(ctx, target, journal.Patience{LockTimeout: m.Task.LockTimeout, Together: journal.Together}); err != nil {
		return err
	}
	if err := m.setSequences(ctx, source, target); err != nil {
		return err
	}
	if m.Task.Options.DataOnly {
		refused, err := putBack(ctx, target, m.Task.goesOn())
		m.Findings.refuse(stageAside, refused)
		if err != nil {
			return err
		}
		return m.leave(ctx, target)
	}
	if err := m.Keys.foreignKeys(ctx); err != nil {
		return err
	}
	other := func(e *archive.Entry) bool { return e.Kind != kindForeignKey }
	if err := m.Schema.restoreWith(ctx, plan.Decision, restore.Config{Conns: []*pgx.Conn{target}, Only: other}); err != nil {
		return err
	}
	if err := m.Schema.Restore(ctx, plan.Last, []*pgx.Conn{target}); err != nil {
		return err
	}
	if err := restore.Run(ctx, target, plan.IdentityAlways(m.Schema.catalog)); err != nil {
		return err
	}
	if err := m.roleSettings(ctx, source, target); err != nil {
		return err
	}
	return m.leave(ctx, target)
}

// leave removes our schema from the target, unless something is left to be done.
func (m *Migration) leave(ctx context.Context, target *pgx.Conn) error {
	if err := m.incomplete(ctx, target); err != nil {
		return err
	}
	return journal.Uninstall(ctx, target)
}

// setSequences takes over the positions of the sequences that are copied.
func (m *Migration) setSequences(ctx context.Context, source, target *pgx.Conn) error {
	if m.Task.Options.SchemaOnly {
		return nil
	}
	takes := m.Schema.takesSequence
	if m.Task.Options.Filter.IsZero() {
		takes = func(pg.Name) bool { return true }
	}
	states, err := sequence.ReadOf(ctx, source, takes)
	if err != nil {
		return err
	}
	_, err = sequence.Set(ctx, target, states)
	return err
}

// roleSettings carries over what ALTER ROLE … SET has given the roles that the
// target has others for.
func (m *Migration) roleSettings(ctx context.Context, source, target *pgx.Conn) error {
	findings, err := roles.CopySettings(ctx, source, target, m.Task.Roles)
	m.Findings.note(findings)
	return err
}

// Stays says what a stopped copy has left on the target, and how to continue.
func (m *Migration) Stays() string {
	c := m.Rows.Copied()
	text := "the schema crossfade and what was made so far stay on the target"
	if c.TablesTotal > 0 {
		text = fmt.Sprintf("%d of %d tables are copied and stay on the target, with the schema crossfade", c.TablesDone, c.TablesTotal)
	}
	if !m.Task.Reached(journal.PhaseCopied) && !m.Task.Options.KeepCopied {
		text += "; run the same command again to continue: tables are copied again if the source has changed meanwhile, unless --keep-copied is given"
	} else {
		text += "; run the same command again to continue"
	}
	return text + "; or remove it all: crossfade clean"
}

// momentTries bounds how often a one-shot copy starts again by itself because its snapshot was
// lost, or a table rewritten after it. A copy that loses three times would lose a fourth time, and
// the operator should know.
const momentTries = 3

// copyOnce copies every relation under one snapshot: held, or one of now. Without a stream nothing
// can bring a table from one moment to another, so that a snapshot that is lost takes everything
// with it, unless tables of an older moment are accepted.
func (m *Rows) copyOnce(ctx context.Context, held *snapshot.Holder, onCopied func(copy.Copied)) error {
	for try := 1; ; try++ {
		lost, err := m.copyMoment(ctx, held, onCopied)
		if !lost || try == momentTries || ctx.Err() != nil {
			return err
		}
		m.task.Log.Warn().AnErr("error", err).Msg("the tables cannot be of one moment any more")
		held = nil
	}
}

// copyMoment makes one attempt; lost says that another one, under another snapshot, may succeed.
func (m *Rows) copyMoment(ctx context.Context, held *snapshot.Holder, onCopied func(copy.Copied)) (lost bool, err error) {
	if held == nil {
		if held, err = snapshot.Export(ctx, m.task.ConnectSource); err != nil {
			return false, err
		}
		defer held.Close()
	}
	if err := m.settleMoment(ctx, held.Text()); err != nil {
		return false, err
	}
	err = m.copyTables(ctx, held, onCopied)
	return errors.Is(err, copy.ErrMoment) || errors.Is(err, snapshot.ErrLost), err
}

// settleMoment decides what becomes of tables that were copied under another
// snapshot than this one, and says so in one line. Two snapshots with one text see
// the same: no transaction has ended in between.
func (m *Rows) settleMoment(ctx context.Context, text string) error {
	conn, err := m.task.ConnectTarget(ctx)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(conn)
	var whole, begun int
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE state IN ('copied', 'ready')), count(*) FILTER (WHERE state = 'copying')
			FROM crossfade.relation WHERE state <> 'pending' AND snapshot IS DISTINCT FROM $1`, text).Scan(&whole, &begun)
		if err != nil || m.task.Options.KeepCopied || whole+begun == 0 {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM crossfade.chunk c USING crossfade.relation r
			WHERE c.relid = r.relid AND r.snapshot IS DISTINCT FROM $1`, text); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE crossfade.relation SET state = 'copying', snapshot = NULL
			WHERE state <> 'pending' AND snapshot IS DISTINCT FROM $1`, text)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("compare the moments of the tables: %w", err)
	case m.task.Options.KeepCopied && whole > 0:
		m.task.Log.Warn().Int("tables", whole).Msg("tables that were copied before stay as they were then; the others are as of now, so that the target is not of one moment")
	case whole+begun > 0:
		m.task.Log.Warn().Int("tables", whole+begun).Msg("the snapshot of the earlier attempt is gone and the source has moved on: its tables are copied again, so that all are of one moment; --keep-copied keeps those that were finished")
	}
	return nil
}
