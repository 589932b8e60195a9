package neonlike_test

import (
	"context"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/neonlike"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestSuspendAndWake(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := start(t, true)
	conn := pgtest.Conn(t, p.Owner)
	pgtest.Exec(t, conn, "CREATE TABLE kept AS SELECT 1 AS n; CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS n")
	repl, err := pg.ConnectReplication(ctx, p.Owner)
	require.NoError(t, err)
	busy := pgtest.Conn(t, p.Owner)
	asleep := make(chan error, 1)
	go func() {
		_, err := busy.Exec(ctx, "SELECT pg_sleep(120)")
		asleep <- err
	}()
	for waiting := ""; waiting != "PgSleep"; {
		waiting = pgtest.Value(t, conn, "SELECT wait_event FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")
	}

	const delay = 300 * time.Millisecond
	p.SetWakeDelay(delay)
	require.NoError(t, p.Suspend(ctx))
	require.NoError(t, p.Suspend(ctx), "once more does nothing")
	require.True(t, p.Asleep())
	require.Equal(t, pg.CodeAdminShutdown, pg.Code(<-asleep))
	_, err = conn.Exec(ctx, "SELECT 1")
	require.Equal(t, pg.CodeAdminShutdown, pg.Code(err))
	_, err = repl.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	require.Equal(t, pg.CodeAdminShutdown, pg.Code(err))
	_, err = pg.Connect(ctx, p.Owner.WithUser(p.Owner.User(), "wrong"))
	require.ErrorContains(t, err, "password authentication failed")
	require.True(t, p.Asleep(), "who is refused wakes nobody")

	began := time.Now()
	var all errgroup.Group
	for range 5 {
		all.Go(func() error {
			c, err := pg.Connect(ctx, p.Owner)
			if err == nil {
				err = c.Close(ctx)
			}
			return err
		})
	}
	require.NoError(t, all.Wait())
	require.GreaterOrEqual(t, time.Since(began), delay)
	require.False(t, p.Asleep())
	conn = pgtest.Conn(t, p.Owner)
	require.Equal(t, "1", pgtest.Value(t, conn, "SELECT count(*) FROM kept"))
	require.Equal(t, "0", pgtest.Value(t, conn, "SELECT count(*) FROM fleeting"))
}

// TestFaults has one project go through them in turn.
func TestFaults(t *testing.T) {
	t.Parallel()
	p := start(t, false)
	for _, x := range []struct {
		name string
		run  func(*testing.T, *neonlike.Project)
	}{{"logins fail", failing}, {"full", full}, {"crash", crashing}} {
		require.True(t, t.Run(x.name, func(t *testing.T) { x.run(t, p) }))
	}
}

func crashing(t *testing.T, p *neonlike.Project) {
	ctx := context.Background()
	conn := pgtest.Conn(t, p.Owner)
	pid, err := strconv.Atoi(pgtest.Value(t, conn, "SELECT pg_backend_pid()"))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	_, err = conn.Exec(ctx, "SELECT 1")
	require.True(t, pg.ConnectionLost(err), "%v", err)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !p.Cluster().Crashed() { // its processes end one after the other
		<-tick.C
	}
	require.Equal(t, "1", pgtest.Value(t, pgtest.Conn(t, p.Owner), "SELECT 1"))

	require.NoError(t, p.Cluster().Stop(ctx, pgcluster.Fast))
	_, err = pg.Connect(ctx, p.Owner)
	require.ErrorContains(t, err, "Couldn't connect to compute node")
	require.True(t, pg.ConnectionLost(err))
	require.NoError(t, p.Cluster().StartServer(ctx))
	require.Equal(t, "1", pgtest.Value(t, pgtest.Conn(t, p.Owner), "SELECT 1"))
}

func failing(t *testing.T, p *neonlike.Project) {
	p.FailNext(2, "Control plane request failed: endpoint is temporarily unavailable. Check your quotas and/or contact our support.")
	for range 2 {
		_, err := pg.Connect(context.Background(), p.Owner)
		require.ErrorContains(t, err, "endpoint is temporarily unavailable")
		require.Equal(t, pg.CodeInternal, pg.Code(err))
	}
	require.Equal(t, "1", pgtest.Value(t, pgtest.Conn(t, p.Owner), "SELECT 1"))
}

// full fills a project by every kind of statement.
func full(t *testing.T, p *neonlike.Project) {
	ctx := context.Background()
	conn := pgtest.Conn(t, p.Owner)
	pgtest.Exec(t, conn, "CREATE TABLE big (a text)")
	size, err := p.Size(ctx)
	require.NoError(t, err)
	limit := int(size>>20) + 3
	require.NoError(t, p.SetSizeLimit(ctx, limit))
	line := strings.Repeat("x", 99) + "\n"
	_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader(strings.Repeat(line, 1000)), "COPY big FROM STDIN")
	require.NoError(t, err, "there is room for some")
	_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader(strings.Repeat(line, 200_000)), "COPY big FROM STDIN")
	text := "could not extend file because project size limit (" + strconv.Itoa(limit) + " MB) has been exceeded"
	require.Equal(t, pg.CodeDiskFull, pg.Code(err), "%v", err)
	require.ErrorContains(t, err, text)
	require.Equal(t, "1000", pgtest.Value(t, conn, "SELECT count(*) FROM big"), "the session goes on")

	for _, sql := range []string{"INSERT INTO big VALUES ('x')", "CREATE INDEX ON big (a)", "CREATE TABLE more AS SELECT 1", "REFRESH MATERIALIZED VIEW no_such_view"} {
		_, err = conn.Exec(ctx, sql)
		require.ErrorContains(t, err, text, sql)
		_, err = conn.PgConn().Exec(ctx, "BEGIN; "+sql).ReadAll()
		require.ErrorContains(t, err, text, sql)
	}
	_, err = conn.Exec(ctx, "SELECT no_such_column")
	require.Equal(t, pg.CodeUndefinedColumn, pg.Code(err), "other errors keep their words")
	require.NoError(t, p.SetSizeLimit(ctx, 0))
	_, err = conn.Exec(ctx, "INSERT INTO big VALUES ('x')")
	require.NoError(t, err)
	p.SetDiskSize(1)
	_, err = conn.Exec(ctx, "INSERT INTO big VALUES ('x')")
	require.ErrorContains(t, err, "No space left on device", "a statement that was prepared before")
	pgtest.Exec(t, conn, "DELETE FROM big")
	p.SetDiskSize(0)
}
