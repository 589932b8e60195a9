package daemon

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/pgcluster/pgtest"
)

// TestLinkNoticesACut ends the server's process between two calls that follow each
// other closely.
func TestLinkNoticesACut(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	l := newLink(dsn)
	defer l.close()
	var pid int32
	ask := func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid)
	}
	require.NoError(t, l.do(ctx, ask))
	first := pid
	other := pgtest.Conn(t, dsn)
	var ended bool
	require.NoError(t, other.QueryRow(ctx, "SELECT pg_terminate_backend($1, 30000)", first).Scan(&ended))
	require.True(t, ended)
	l.used = time.Now() // as fresh as can be
	require.NoError(t, l.do(ctx, ask))
	require.NotEqual(t, first, pid)
}
