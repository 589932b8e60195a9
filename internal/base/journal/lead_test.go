package journal_test

import (
	"fmt"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestWhoLeadsIsNamed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	first := pgtest.Conn(t, dsn, pg.WithName("lead process 7 on somewhere"))
	second := pgtest.Conn(t, dsn)
	require.NoError(t, journal.Lead(t.Context(), first))
	err := journal.Lead(t.Context(), second)
	require.ErrorIs(t, err, journal.ErrLed)
	var led *journal.LedError
	require.ErrorAs(t, err, &led)
	require.Equal(t, pgtest.Value(t, first, "SELECT pg_backend_pid()::text"), fmt.Sprint(led.PID))
	require.Equal(t, dsn.User(), led.User)
	require.Equal(t, "127.0.0.1", led.Address)
	for _, words := range []string{fmt.Sprintf("server process %d", led.PID), "crossfade lead process 7 on somewhere", "connected for", "stop it first"} {
		require.ErrorContains(t, err, words)
	}
	other := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
	require.NoError(t, journal.Lead(t.Context(), other), "of another database of the same server")
}

func TestPredecessorsAreEndedAndSeenGone(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
	with := func(name, tag string) string {
		conn := pgtest.Conn(t, dsn.WithTag(tag), pg.WithName(name))
		return pgtest.Value(t, conn, "SELECT pg_backend_pid()::text")
	}
	ours := pgtest.Conn(t, dsn.WithTag(journal.Tag("run1", "MINE22")), pg.WithName("open"))
	stay := []string{
		with("copy", journal.Tag("run1", "MINE22")),
		with("copy", journal.Tag("run2", "OTHER2")),
		with("lead process 7 on somewhere", journal.Tag("", "OTHER2")),
		pgtest.Value(t, pgtest.Conn(t, dsn), "SELECT pg_backend_pid()::text"),
	}
	start := with("open", journal.Tag("", "OTHER2"))
	// One that works on, in a transaction that would commit.
	busy := pgtest.Conn(t, dsn.WithTag(journal.Tag("run1", "OLDER2")), pg.WithName("watch definitions"))
	pid := pgtest.Value(t, busy, "SELECT pg_backend_pid()::text")
	pgtest.Exec(t, busy, "BEGIN; CREATE TABLE public.late ()")
	done := make(chan error, 1)
	go func() {
		_, err := busy.PgConn().Exec(t.Context(), "SELECT pg_sleep(60); COMMIT").ReadAll()
		done <- err
	}()
	there := func(pid string) string {
		return pgtest.Value(t, ours, "SELECT count(*)::text FROM pg_stat_activity WHERE pid = "+pid)
	}

	n, err := journal.EndPredecessors(t.Context(), ours, "run1", "MINE22", false, 10*time.Second)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, "0", there(pid), "it is gone when EndPredecessors returns")
	require.Error(t, <-done)
	require.Equal(t, "0", pgtest.Value(t, ours, "SELECT count(*)::text FROM pg_class WHERE relname = 'late'"))
	require.Equal(t, "1", there(start), "on a source others begin too")
	n, err = journal.EndPredecessors(t.Context(), ours, "run1", "MINE22", true, 10*time.Second)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, "0", there(start))
	for _, pid := range stay {
		require.Equal(t, "1", there(pid))
	}
}

// A session whose process does not come to end is waited for, and named: what it has begun may
// still be committed.
func TestAPredecessorThatDoesNotEndIsNamed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
	ours := pgtest.Conn(t, dsn.WithTag(journal.Tag("run1", "MINE22")), pg.WithName("open"))
	stuck := pgtest.Conn(t, dsn.WithTag(journal.Tag("run1", "OLDER2")), pg.WithName("copy"))
	pid, err := strconv.Atoi(pgtest.Value(t, stuck, "SELECT pg_backend_pid()::text"))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	goOn := sync.OnceFunc(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	defer goOn()

	_, err = journal.EndPredecessors(t.Context(), ours, "run1", "MINE22", false, 300*time.Millisecond)
	var left *journal.PredecessorError
	require.ErrorAs(t, err, &left)
	require.Equal(t, int32(pid), left.Sessions[0].PID)
	goOn()
	_, err = journal.EndPredecessors(t.Context(), ours, "run1", "MINE22", false, 10*time.Second)
	require.NoError(t, err)
	require.Equal(t, "0", pgtest.Value(t, ours, "SELECT count(*)::text FROM pg_stat_activity WHERE pid = "+strconv.Itoa(pid)))
}
