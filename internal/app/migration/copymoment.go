package migration

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/replicate/copy"
	"crossfade/replicate/snapshot"
)

// momentTries bounds how often a one-shot copy starts again by itself because its snapshot was
// lost, or a table rewritten after it. A copy that loses three times would lose a fourth time, and
// the operator should know.
const momentTries = 3

// copyOnce copies every relation under one snapshot: held, or one of now. Without a stream nothing
// can bring a table from one moment to another, so that a snapshot that is lost takes everything
// with it, unless tables of an older moment are accepted.
func (m *Rows) copyOnce(ctx context.Context, held *snapshot.Holder) error {
	for try := 1; ; try++ {
		lost, err := m.copyMoment(ctx, held)
		if !lost || try == momentTries || ctx.Err() != nil {
			return err
		}
		m.task.Log.Warn().AnErr("error", err).Msg("the tables cannot be of one moment any more")
		held = nil
	}
}

// copyMoment makes one attempt; lost says that another one, under another snapshot, may succeed.
func (m *Rows) copyMoment(ctx context.Context, held *snapshot.Holder) (lost bool, err error) {
	if held == nil {
		if held, err = snapshot.Export(ctx, m.task.ConnectSource); err != nil {
			return false, err
		}
		defer held.Close()
	}
	if err := m.settleMoment(ctx, held.Text()); err != nil {
		return false, err
	}
	err = m.copyTables(ctx, held)
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
