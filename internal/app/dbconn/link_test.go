package dbconn

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestLinkNoticesACut ends the server's process between two calls that follow each other closely.
func TestLinkNoticesACut(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	l := New(dsn)
	defer l.Close()
	var pid int32
	ask := func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid)
	}
	require.NoError(t, l.Do(ctx, ask))
	first := pid
	other := pgtest.Conn(t, dsn)
	var ended bool
	require.NoError(t, other.QueryRow(ctx, "SELECT pg_terminate_backend($1, 30000)", first).Scan(&ended))
	require.True(t, ended)
	l.used = time.Now() // as fresh as can be
	require.NoError(t, l.Do(ctx, ask))
	require.NotEqual(t, first, pid)
}

// TestLinkKeepsNoOpenTransaction leaves one open, or failed: the next caller gets another session,
// in which nothing of it is seen, and its locks are gone.
func TestLinkKeepsNoOpenTransaction(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	pgtest.Exec(t, pgtest.Conn(t, dsn), "CREATE TABLE public.t (id int)")
	for name, last := range map[string]string{"open": "SELECT 1", "failed": "SELECT 1/0"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			look := pgtest.Conn(t, dsn)
			l := New(dsn)
			defer l.Close()
			stopped := errors.New("stopped")
			var first, next uint32
			require.ErrorIs(t, l.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
				first = conn.PgConn().PID()
				pgtest.Exec(t, conn, "BEGIN; INSERT INTO public.t VALUES (1)")
				_, _ = conn.Exec(ctx, last)
				return stopped
			}), stopped)
			require.NoError(t, l.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
				next = conn.PgConn().PID()
				require.Equal(t, byte('I'), conn.PgConn().TxStatus())
				require.Equal(t, "0", pgtest.Value(t, conn, "SELECT count(*) FROM public.t"))
				return nil
			}))
			require.NotEqual(t, first, next)
			require.Eventually(t, func() bool {
				return pgtest.Value(t, look, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", first) == "0"
			}, pgtest.Timeout, 10*time.Millisecond, "its session ends")
		})
	}
}

// TestLinkKeepsItsSession over an error that has left no transaction.
func TestLinkKeepsItsSession(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := New(pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
	defer l.Close()
	var pids []uint32
	for _, sql := range []string{"SELECT 1", "SELECT 1/0", "SELECT 1"} {
		_ = l.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			pids = append(pids, conn.PgConn().PID())
			_, err := conn.Exec(ctx, sql)
			return err
		})
	}
	require.Len(t, pids, 3)
	require.Equal(t, pids[0], pids[1])
	require.Equal(t, pids[0], pids[2])
}
