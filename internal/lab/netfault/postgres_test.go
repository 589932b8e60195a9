package netfault_test

import (
	"context"
	"net"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/netfault"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// The answer to a COMMIT is lost on the way: the client sees a lost connection,
// the row is there.
func TestLosesTheAnswerToACommit(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	direct := pgtest.Conn(t, dsn)
	pgtest.Exec(t, direct, "CREATE TABLE t (id int PRIMARY KEY)")

	r := start(t, net.JoinHostPort(dsn.Host(), strconv.Itoa(dsn.Port())))
	cfg := dsn.Config()
	cfg.Host, cfg.Port = r.Addr().IP.String(), uint16(r.Addr().Port)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()

	for _, sql := range []string{"BEGIN", "INSERT INTO t VALUES (1)"} {
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err)
	}
	fired := r.Arm(netfault.Trap{Direction: netfault.ToClient, Type: 'C', Mode: netfault.ResetClient})
	_, err = conn.Exec(ctx, "COMMIT")
	require.Error(t, err)
	require.True(t, pg.ConnectionLost(err), "%v", err)
	<-fired
	require.Equal(t, "1", pgtest.Value(t, direct, "SELECT count(*) FROM t"))
}
