package journal_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestPreparedTransactionsAreRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn, conn := source(t)
	other := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
	gid := "of " + dsn.Database()
	pgtest.Exec(t, other, "BEGIN; PREPARE TRANSACTION 'other "+gid+"'")
	defer pgtest.Exec(t, other, "ROLLBACK PREPARED 'other "+gid+"'")
	require.NoError(t, journal.RefusePrepared(ctx, conn), "another database's are its own affair")
	app := pgtest.Conn(t, dsn)
	pgtest.Exec(t, app, "BEGIN; PREPARE TRANSACTION '"+gid+"'")
	pgtest.Exec(t, app, "BEGIN; PREPARE TRANSACTION '"+gid+" 2'")
	err := journal.RefusePrepared(ctx, conn)
	require.ErrorContains(t, err, "'"+gid+"', prepared by "+dsn.User())
	require.ErrorContains(t, err, "(and 1 more)")
	pgtest.Exec(t, app, "ROLLBACK PREPARED '"+gid+"'")
	pgtest.Exec(t, app, "COMMIT PREPARED '"+gid+" 2'")
	require.NoError(t, journal.RefusePrepared(ctx, conn))
}

// TestPreparedTransactionsOfAMomentAgoAreWaitedFor: an application that uses two phases has
// some at every moment; only one that stays is in the way.
func TestPreparedTransactionsOfAMomentAgoAreWaitedFor(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn, conn := source(t)
	app := pgtest.Conn(t, dsn)
	first, later, kept := "first "+dsn.Database(), "later "+dsn.Database(), "kept "+dsn.Database()
	pgtest.Exec(t, app, "BEGIN; PREPARE TRANSACTION '"+first+"'")
	awaited := make(chan error, 1)
	go func() { awaited <- journal.AwaitPrepared(ctx, conn, pgtest.Timeout) }()
	pgtest.Exec(t, app, "SELECT pg_sleep(0.2)")
	require.Empty(t, awaited, "it is waited for")
	pgtest.Exec(t, app, "BEGIN; PREPARE TRANSACTION '"+later+"'")
	pgtest.Exec(t, app, "COMMIT PREPARED '"+first+"'")
	require.NoError(t, <-awaited, "one that came since is not")
	pgtest.Exec(t, app, "ROLLBACK PREPARED '"+later+"'")

	pgtest.Exec(t, app, "BEGIN; PREPARE TRANSACTION '"+kept+"'")
	defer pgtest.Exec(t, app, "ROLLBACK PREPARED '"+kept+"'")
	err := journal.AwaitPrepared(ctx, conn, 300*time.Millisecond)
	var there *journal.PreparedError
	require.ErrorAs(t, err, &there)
	require.Equal(t, kept, there.GID)
	require.Equal(t, dsn.User(), there.Owner)
	require.GreaterOrEqual(t, there.Age, 300*time.Millisecond)
	require.ErrorContains(t, err, "ROLLBACK PREPARED it first")
}
