package journal

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

// sending counts what is written to a server.
type sending struct {
	net.Conn
	writes *atomic.Int64
}

func (s sending) Write(p []byte) (int, error) {
	s.writes.Add(1)
	return s.Conn.Write(p)
}

// A program that is stopped, or whose network is cut, between two messages of a
// transaction would keep its locks, and applications would wait for it.
func TestNoLockOutlastsOneMessage(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	var writes atomic.Int64
	cfg := dsn.Config()
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return sending{c, &writes}, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(ctx) })
	pgtest.Exec(t, conn, "CREATE TABLE public.a (i int)")

	before := writes.Load()
	require.NoError(t, Transact(ctx, conn, time.Second, "ALTER TABLE public.a ADD COLUMN j int;"))
	require.EqualValues(t, 1, writes.Load()-before, "begin, lock and commit are one message")
	require.Equal(t, "2", pgtest.Value(t, conn, "SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.a'::regclass AND attnum > 0"))

	require.Error(t, Transact(ctx, conn, time.Second, "ALTER TABLE public.a ADD COLUMN k int; SELECT 1/0;"))
	require.Equal(t, byte('I'), conn.PgConn().TxStatus(), "rolled back")
	require.Equal(t, "2", pgtest.Value(t, conn, "SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.a'::regclass AND attnum > 0"))
}
