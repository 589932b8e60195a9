package progress_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/progress"
)

func target(t *testing.T) (pg.DSN, *pgx.Conn) {
	t.Helper()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
	conn := pgtest.Conn(t, dsn)
	pgtest.Exec(t, conn, journal.TargetDDL)
	return dsn, conn
}

func TestClaimStartsALaneAndTakesItOver(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, conn := target(t)
	_, err := progress.Read(ctx, conn, 0)
	require.ErrorIs(t, err, progress.ErrNoLane)
	first, err := progress.Claim(ctx, conn, 0, 0x100)
	require.NoError(t, err)
	require.Equal(t, progress.Row{Lane: 0, Owner: 1, EndLSN: 0x100, Open: true}, first)
	second, err := progress.Claim(ctx, conn, 0, 0x999)
	require.NoError(t, err)
	require.Equal(t, progress.Row{Lane: 0, Owner: 2, EndLSN: 0x100, Open: true}, second)
	require.ErrorIs(t, progress.Advance(ctx, conn, 0, first.Owner, 0x100, 0x200, time.Time{}), progress.ErrFenced)
	require.NoError(t, progress.Advance(ctx, conn, 0, second.Owner, 0x100, 0x200, time.Time{}))
}

func TestAdvanceComparesAndSets(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, conn := target(t)
	_, err := progress.Claim(ctx, conn, 3, 0x100)
	require.NoError(t, err)
	at := time.Date(2031, 2, 3, 4, 5, 6, 789000, time.UTC)
	require.NoError(t, progress.Advance(ctx, conn, 3, 1, 0x100, 0x1_0000_0000, at))
	row, err := progress.Read(ctx, conn, 3)
	require.NoError(t, err)
	require.Equal(t, pg.LSN(0x1_0000_0000), row.EndLSN)
	require.True(t, row.CommitTime.Equal(at), row.CommitTime)
	require.ErrorIs(t, progress.Advance(ctx, conn, 3, 1, 0x100, 0x2_0000_0000, at), progress.ErrMoved)
	require.ErrorIs(t, progress.Advance(ctx, conn, 3, 1, 0x1_0000_0000, 0x100, at), progress.ErrMoved, "never back")
	require.ErrorIs(t, progress.Advance(ctx, conn, 4, 1, 0x100, 0x200, at), progress.ErrNoLane)
	require.NoError(t, progress.Advance(ctx, conn, 3, 1, 0x1_0000_0000, 0x1_0000_0000, time.Time{}))
	row, err = progress.Read(ctx, conn, 3)
	require.NoError(t, err)
	require.True(t, row.CommitTime.Equal(at), "kept")
}

func TestAdvanceSQLFailsByItself(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, conn := target(t)
	_, err := progress.Claim(ctx, conn, 0, 0x100)
	require.NoError(t, err)
	run := func(owner int64, from, to pg.LSN) error {
		return conn.PgConn().ExecParams(ctx, progress.AdvanceSQL, progress.AdvanceArgs(0, owner, from, to, time.Time{}), nil, nil, nil).Read().Err
	}
	require.NoError(t, run(1, 0x100, 0x200))
	require.Equal(t, "22012", pg.Code(run(1, 0x100, 0x300)))
	require.Equal(t, "22012", pg.Code(run(2, 0x200, 0x300)))
}

func TestCloseWaitsForABatchAndEndsTheLane(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn, conn := target(t)
	_, err := progress.Claim(ctx, conn, 0, 0x100)
	require.NoError(t, err)
	batch, err := conn.Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, progress.Advance(ctx, batch, 0, 1, 0x100, 0x200, time.Time{}))

	decider := pgtest.Conn(t, dsn)
	type result struct {
		end pg.LSN
		err error
	}
	done := make(chan result, 1)
	go func() {
		end, err := progress.Close(ctx, decider, 0, 0x200)
		done <- result{end, err}
	}()
	watcher := pgtest.Conn(t, dsn)
	require.Eventually(t, func() bool {
		return pgtest.Value(t, watcher, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == "1"
	}, pgtest.Timeout, 5*time.Millisecond)
	require.NoError(t, batch.Commit(ctx))
	r := <-done
	require.NoError(t, r.err)
	require.Equal(t, pg.LSN(0x200), r.end)

	require.ErrorIs(t, progress.Advance(ctx, conn, 0, 1, 0x200, 0x300, time.Time{}), progress.ErrClosed)
	_, err = progress.Claim(ctx, conn, 0, 0x100)
	require.ErrorIs(t, err, progress.ErrClosed)
	_, err = progress.Close(ctx, decider, 0, 0x200)
	require.ErrorIs(t, err, progress.ErrClosed)
}

func TestCloseRefusesALaneThatIsBehind(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, conn := target(t)
	_, err := progress.Claim(ctx, conn, 0, 0x100)
	require.NoError(t, err)
	_, err = progress.Close(ctx, conn, 0, 0x101)
	require.ErrorContains(t, err, "0/100, short of 0/101")
	row, err := progress.ReadLocked(ctx, conn, 0)
	require.NoError(t, err)
	require.True(t, row.Open)
}
