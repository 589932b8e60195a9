package pgcluster_test

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestClusterKeepsDataOverARestartAndLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	c, err := pgcluster.Start(ctx, pgcluster.Config{Superuser: "boss"})
	require.NoError(t, err)
	conn, err := pg.Connect(ctx, c.AdminDSN("postgres"))
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "CREATE TABLE public.kept AS SELECT 7 AS n")
	require.NoError(t, err)
	require.NoError(t, conn.Close(ctx))

	port := c.Port()
	require.NoError(t, c.Restart(ctx, pgcluster.Fast))
	require.Equal(t, port, c.Port())
	conn, err = pg.Connect(ctx, c.AdminDSN("postgres"))
	require.NoError(t, err)
	var n int
	require.NoError(t, conn.QueryRow(ctx, "SELECT n FROM public.kept").Scan(&n))
	require.Equal(t, 7, n)
	require.NoError(t, conn.Close(ctx))

	require.NoError(t, c.Close())
	require.NoError(t, c.Close(), "a second Close does nothing")
	_, err = os.Stat(c.Dir())
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = pg.Connect(ctx, c.AdminDSN("postgres"))
	require.ErrorContains(t, err, "nothing listens there")
}

func TestDatabaseHasAnOwnerWhoIsNoSuperuser(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	conn := pgtest.Conn(t, dsn)
	require.Equal(t, "false", pgtest.Value(t, conn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))
	require.Equal(t, "logical", pgtest.Value(t, conn, "SELECT current_setting('wal_level')"))
	pgtest.Exec(t, conn, "CREATE TABLE public.own (a int)")
}
