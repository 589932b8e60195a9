package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/session"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// tool runs one of PostgreSQL's programs against the proxy, over TLS and with the
// client's password.
type tool struct {
	t    testing.TB
	cmd  *exec.Cmd
	out  *bufio.Reader
	errs *strings.Builder
}

func (g *rig) tool(t testing.TB, name string, args ...string) *tool {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	if _, err := os.Stat(b.Path(name)); err != nil {
		t.Skipf("%s is not installed here", name)
	}
	c := &tool{t: t, errs: &strings.Builder{}}
	info := fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s sslmode=require", g.client.Port(), g.client.User(), g.client.Database())
	c.cmd = exec.Command(b.Path(name), append([]string{"-d", info}, args...)...)
	c.cmd.Env = append(os.Environ(), "PGPASSWORD="+g.client.Password(), "LC_ALL=C")
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	c.cmd.Stderr, c.out = c.errs, bufio.NewReader(out)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	return c
}

// ends waits for the end of the program.
func (c *tool) ends() (code int, said string) {
	_, _ = io.Copy(io.Discard, c.out)
	_ = c.cmd.Wait()
	return c.cmd.ProcessState.ExitCode(), c.errs.String()
}

// line waits for a line that holds text.
func (c *tool) line(text string) {
	c.t.Helper()
	for {
		l, err := c.out.ReadString('\n')
		require.NoError(c.t, err, c.errs.String)
		if strings.Contains(l, text) {
			return
		}
	}
}

func withTLS(t *testing.T) func(*Config) {
	return func(c *Config) { c.TLS = certificate(t) }
}

func TestLogicalReplicationPasses(t *testing.T) {
	t.Parallel()
	g := newRig(t, withTLS(t))
	ctx := within(t)
	own := pgtest.Conn(t, g.source)
	run(t, own, "CREATE TABLE public.t (id int)")
	slot := "through_" + g.source.Database()
	code, said := g.tool(t, "pg_recvlogical", "--create-slot", "--slot", slot, "--plugin=test_decoding").ends()
	require.Zero(t, code, said)
	start := []string{"--start", "--no-loop", "--fsync-interval=0", "--status-interval=1", "--slot", slot, "-f", "-"}
	reads := g.tool(t, "pg_recvlogical", start...)
	run(t, own, "INSERT INTO public.t SELECT generate_series(1, 20000)") // many frames, in large runs
	reads.line("id[integer]:20000")
	require.Equal(t, 1, g.Status().Streams)
	client := g.dial(t)

	list := g.Sessions(ctx, true)
	require.Len(t, list, 2)
	require.Equal(t, session.StateReplication, list[0].State)
	require.Equal(t, "red", list[0].Verdict)
	require.Equal(t, "pg_recvlogical", list[0].ApplicationName)
	require.Contains(t, g.ServerPIDs(), list[0].ServerPID)

	// It makes an attempt abort, no matter who waits.
	for i, policy := range []Unmovable{UnmovableAbort, UnmovableWait} {
		require.NoError(t, g.Attempt(ctx, int64(i+1), policy, time.Minute))
		_, err := g.Stage(ctx, int64(i+1))
		var unmovable *UnmovableError
		require.ErrorAs(t, err, &unmovable)
		require.Equal(t, "replication", unmovable.Sessions[0].Code)
	}
	// It does not keep the pause from being reached, and goes on in it.
	require.NoError(t, g.Attempt(ctx, 3, UnmovableDisconnect, 0))
	_, err := g.Stage(ctx, 3)
	require.NoError(t, err)
	_, err = g.Pause(ctx, 3, 10*time.Second)
	require.NoError(t, err)
	run(t, own, "INSERT INTO public.t VALUES (20001)")
	reads.line("id[integer]:20001")
	report, err := g.Restage(ctx, 3)
	require.NoError(t, err)
	require.Equal(t, 1, report.Disconnected)
	require.Equal(t, "replication", report.Unmovable[0].Code)
	code, said = reads.ends()
	require.NotZero(t, code)
	require.Contains(t, said, "the database is being moved")
	waits := g.tool(t, "pg_recvlogical", start...)
	eventually(t, "the next one waits at the gate", func() bool { return g.Status().Waiting == 1 })
	_, err = g.Switch(ctx, 3, Target)
	require.NoError(t, err)
	code, said = waits.ends()
	require.NotZero(t, code)
	require.Contains(t, said, "passed to the source only")
	require.Equal(t, Target, g.side(t, client))
	require.Zero(t, g.Status().Streams)
}

func TestPhysicalReplicationPasses(t *testing.T) {
	t.Parallel()
	g := newRig(t, withTLS(t))
	dir := t.TempDir()
	streams := g.tool(t, "pg_receivewal", "--no-loop", "--verbose", "-D", dir)
	own := pgtest.Conn(t, g.source)
	segments := func() int {
		files, _ := filepath.Glob(filepath.Join(dir, "0*"))
		return len(files)
	}
	// It streams from the segment that is current when it asks: what is written before may be none
	// of it.
	eventually(t, "it streams", func() bool { return segments() > 0 })
	run(t, own, "CREATE TABLE public.t AS SELECT repeat('x', 1000) FROM generate_series(1, 30000)")
	eventually(t, "a segment is written", func() bool { return segments() > 1 })
	g.stop()
	code, said := streams.ends()
	require.NotZero(t, code)
	require.Contains(t, said, "disconnected") // libpq drops our words where WAL is behind it in its buffer
}

// TestAWalsenderAnswersQueries: what runs through a replication connection is told
// from a session's by nothing but its start-up.
func TestAWalsenderAnswersQueries(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c := g.rawDial(t, wire.Param{Name: "replication", Value: "database"})
	require.Equal(t, "TDCZ", c.query("IDENTIFY_SYSTEM"))
	require.Equal(t, g.source.Database(), one(t, c.answer("SELECT current_database()")))
	c.send(wiretest.AppendQuery(nil, "SELECT pg_sleep(3600)"))
	g.sleeps(t, Source, c.pid)
	g.sessions.Cancel(t.Context(), c.pid, c.key)
	require.Contains(t, shape(c.until('Z')), "EZ")
	c.send(wire.AppendTerminate(nil))
	require.Nil(t, c.gone())
	eventually(t, "it is gone", func() bool { return g.Status().Streams == 0 })
	d := g.rawDial(t, wire.Param{Name: "replication", Value: "database"})
	run(t, pgxAdmin(t, g), "SELECT pg_terminate_backend($1)", g.ServerPIDs()[0])
	require.Equal(t, pg.CodeAdminShutdown, d.gone().Code, "once, in the server's words")

	_, err := pgx.ConnectConfig(context.Background(), func() *pgx.ConnConfig {
		cfg := g.client.Config()
		cfg.RuntimeParams["replication"], cfg.Database = "database", "elsewhere"
		return cfg
	}())
	require.Equal(t, pg.CodeInvalidCatalog, pg.Code(err))
}
