package journal_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/journal"
	"crossfade/internal/pgcluster/pgtest"
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
