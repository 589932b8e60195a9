package migration

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/replicate/extras/sequence"
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
	if _, err := journal.DropFence(ctx, target, journal.Patience{LockTimeout: m.Task.lockTimeout, Together: journal.Together}); err != nil {
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
