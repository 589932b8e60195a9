package e2e_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestSIGTERM stops the program while a transaction is open: it may end, nobody
// else comes in; a second signal does not wait for it.
func TestSIGTERM(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	p := newProcess(t, s, "--shutdown-timeout=2m")
	p.start()
	p.awaitFollowing()
	open, idle := application(t, p, "0"), application(t, p, "0")
	pgtest.Exec(t, open, "BEGIN")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool {
		conn, err := pgx.ConnectConfig(t.Context(), p.proxied().Config())
		if err == nil {
			_ = conn.Close(context.Background())
		}
		return pg.Code(err) == pg.CodeCannotConnectNow
	}, patience, 50*time.Millisecond, "logins are refused")
	_, err := idle.Exec(t.Context(), "SELECT 1")
	require.Equal(t, pg.CodeAdminShutdown, pg.Code(err))
	pgtest.Exec(t, open, "CREATE TABLE public.kept (id int)")
	pgtest.Exec(t, open, "COMMIT")
	require.Equal(t, 0, p.wait())
	require.Equal(t, "kept", pgtest.Value(t, pgtest.Conn(t, s.source), "SELECT to_regclass('public.kept')"))
	pgtest.Exec(t, pgtest.Conn(t, s.source), "DROP TABLE public.kept")

	p.start()
	p.awaitFollowing()
	pgtest.Exec(t, application(t, p, "0"), "BEGIN")
	waits := application(t, p, "0")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool {
		_, err := waits.Exec(t.Context(), "SELECT 1")
		return err != nil
	}, patience, 50*time.Millisecond, "it is on its way out")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	<-p.done
	require.Equal(t, syscall.SIGTERM, p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(), "by the signal itself")
	p.cmd = nil
}
