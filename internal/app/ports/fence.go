package ports

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/replicate/extras/extension"
)

// Fence implements cutover.Source: the fence and the marker in one transaction
// (C14). A lock that is not granted is asked for again a few times, each time
// for no longer than the source lock timeout.
func (s *Source) Fence(ctx context.Context, epoch int64, nonce string) (cutover.FenceReport, error) {
	s.Fenced.Store(true)
	report := cutover.FenceReport{}
	defer s.Lock.Release()
	tables, err := s.Tables(ctx)
	if err != nil {
		return report, err
	}
	report.Tables = len(tables)
	if err := s.Expect(epoch, nonce); err != nil {
		return report, err
	}
	for try := 1; ; try++ {
		err = s.Lock.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			return s.fenceOnce(ctx, conn, tables, epoch, nonce, &report.LSN)
		})
		if !pg.IsCode(err, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected) || try == fenceTries || ctx.Err() != nil {
			break
		}
	}
	if errors.Is(err, errFenceUnknown) {
		return report, fmt.Errorf("%w: %w", cutover.ErrOutcomeUnknown, err)
	}
	if err != nil {
		return report, portError(fmt.Errorf("close the fence: %w", err), false)
	}
	return report, nil
}

func (s *Source) fenceOnce(ctx context.Context, conn *pgx.Conn, tables []pg.Name, epoch int64, nonce string, lsn *string) error {
	sql := journal.SetLocalLockTimeout(s.LockTimeout) + unattended + "SET LOCAL synchronous_commit = on;" + journal.CloseFence(tables) + extension.RestJobs
	err := s.Lock.namingHolder(ctx, func() error {
		return pg.Exec(ctx, conn, sql)
	})
	if err != nil {
		return err
	}
	if err := journal.RefusePrepared(ctx, conn); err != nil { // since the census
		return passingPrepared(err)
	}
	if err := journal.AdvanceFenced(ctx, conn, epoch, s.Owner.get(), string(machine.Pausing), string(machine.Fenced), nonce); err != nil {
		return err
	}
	marker := `SELECT pg_catalog.pg_logical_emit_message(true, '` + journal.MarkerPrefix + `', $1)::text`
	if s.Version < 140000 { // older sources publish no messages
		marker = `INSERT INTO crossfade.marker (nonce) VALUES ($1) RETURNING pg_catalog.pg_current_wal_insert_lsn()::text`
	}
	if err := conn.QueryRow(ctx, marker, nonce).Scan(lsn); err != nil {
		return fmt.Errorf("emit the marker: %w", err)
	}
	failpoint.Here(cutover.PointBeforeFenceCommit)
	_, err = conn.Exec(ctx, "COMMIT")
	switch {
	case err == nil:
		return nil
	case pg.Code(err) != "" && !pg.ConnectionLost(err):
		return err
	}
	return fmt.Errorf("%w: %w", errFenceUnknown, err)
}

// passingPrepared marks the error about a prepared transaction of a moment ago: its application
// ends it, and another attempt will find it gone.
func passingPrepared(err error) error {
	var there *journal.PreparedError
	if errors.As(err, &there) && there.Age < preparedPatience {
		return heldError{err}
	}
	return err
}
