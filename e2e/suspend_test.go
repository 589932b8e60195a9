package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

// command is a run of the program that goes on while the test does something.
type command struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  logged
	done chan struct{}
}

// begin starts a command of the program.
func (s *sides) beginCommand(t *testing.T, args ...string) *command {
	t.Helper()
	c := &command{t: t, cmd: exec.Command(binary, args...), done: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), s.env()...)
	c.cmd.Stdout, c.cmd.Stderr, c.cmd.WaitDelay = &c.out, &c.out, time.Second
	require.NoError(t, c.cmd.Start())
	go func() {
		_ = c.cmd.Wait()
		close(c.done)
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
	})
	return c
}

// end waits for the command and returns what it said and its exit code.
func (c *command) end() (string, int) {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(patience):
		require.Fail(c.t, "the program does not end", c.out.tail())
	}
	return c.out.String(), c.cmd.ProcessState.ExitCode()
}

// suspend puts the target to sleep and wakes it as an application would.
func (s *sides) suspend(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, s.neon.Suspend(ctx))
	s.neon.SetWakeDelay(300 * time.Millisecond)
}

// landed are the chunks that are recorded on the target, each with the transaction that
// recorded it.
func (s *sides) landed(t *testing.T) []string {
	t.Helper()
	_, dsn := s.cluster("target")
	rows, err := pgtest.Conn(t, dsn).Query(context.Background(), `SELECT format('%s %s %s', relid, lo, xmin) FROM crossfade.chunk`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

// awaitLanded waits until all chunks but those of one table of the source are there.
func (s *sides) awaitLanded(t *testing.T, but string) []string {
	t.Helper()
	tables := number(t, pgtest.Conn(t, s.source), "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'shop'::regnamespace")
	var list []string
	eventually(t, "the tables but "+but+" have been copied", func() bool {
		list = s.landed(t)
		return len(list) >= int(tables)-1
	})
	return list
}

// heldTable makes the chunks of one table of the source wait at the target.
func (s *sides) heldTable(t *testing.T, table string) *hold {
	t.Helper()
	oid := pgtest.Value(t, pgtest.Conn(t, s.source), "SELECT '"+table+"'::regclass::oid::int8")
	return s.holdWhere(t, "target", "crossfade.chunk", "NEW.relid = "+oid)
}

// TestTheTargetIsSuspended suspends the target while a table is being copied, and under `run`
// while it follows and right after the switch too.
func TestTheTargetIsSuspended(t *testing.T) {
	t.Parallel()
	t.Run("copy", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("with -short only run is tried")
		}
		s := ownSides(t)
		loadShop(t, s)
		copyKilled(t, s, "phase.prepared=kill")
		h := s.heldTable(t, "shop.orders")
		c := s.beginCommand(t, "copy", "--log-level=error")
		h.met()
		s.awaitLanded(t, "shop.orders")
		s.suspend(t)
		pgtest.Conn(t, s.target) // wakes it
		h.release()
		out, code := c.end()
		require.Equal(t, 0, code, out)
		requireSameRows(t, s)
		requireSameSchema(t, s.dump(t, s.source), s.dump(t, s.target), "source and target")
		s.requireNothingLeft(t)
	})
	t.Run("run", func(t *testing.T) {
		t.Parallel()
		s := ownSides(t)
		loadShop(t, s)
		p := newProcess(t, s)
		p.start("phase.prepared=kill")
		require.Equal(t, -1, p.wait(), "the program is killed")
		h := s.heldTable(t, "shop.orders")
		p.start()
		p.awaitServing()
		w := startShop(t, p, 6)
		h.met()
		before := s.awaitLanded(t, "shop.orders")
		s.suspend(t)
		awaitEach(t, w, 3) // nobody who asks the source notices
		pgtest.Conn(t, s.target)
		require.Subset(t, s.landed(t), before, "finished chunks stay")
		h.release()
		p.awaitFollowing()
		require.Subset(t, s.landed(t), before, "and are not copied again")
		s.suspend(t)
		awaitEach(t, w, 5)
		p.awaitFollowing()
		p.cutoverPatiently()
		s.suspend(t)
		awaitEach(t, w, 10)
		p.finishAfterWrites()
		awaitEach(t, w, 2)
		load := stopClients(w)
		requirePlain(t, load)
		requireLedger(t, s, load, small, 1)
		require.Equal(t, 0, p.stop())
		s.requireNothingLeft(t)
	})
}

// TestDatabasesThatGoWhileARunBegins takes a database away while the journal is being made: a
// program that was let in by both waits for it, rather than ends.
func TestDatabasesThatGoWhileARunBegins(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, args, held, gone string }{
		{"run, the target suspended", "run --listen=127.0.0.1:0", "source", "target"},
		{"run, the source's sessions ended", "run --listen=127.0.0.1:0", "source", "source"},
		{"copy, the target suspended", "copy", "target", "target"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := ownSides(t)
			pgtest.Exec(t, pgtest.Conn(t, s.source), "CREATE TABLE public.small AS SELECT 1 AS id; ALTER TABLE public.small ADD PRIMARY KEY (id)")
			dsn := s.source
			if c.held == "target" {
				dsn = s.target
			}
			blocker := pgtest.Conn(t, dsn)
			pgtest.Exec(t, blocker, "BEGIN; CREATE SCHEMA crossfade")
			p := newProcess(t, s)
			args := append(strings.Fields(c.args), "--log-format=json", "--log-level=debug")
			if args[0] == "run" {
				args = append(args, "--control="+p.socket)
			}
			p.command = args
			p.start()
			_, admin := s.cluster(c.held)
			eventually(t, "the journal is being made", func() bool {
				var waiting bool
				require.NoError(t, ask(admin, `SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%CREATE SCHEMA crossfade%'`, &waiting))
				return waiting
			})
			if c.gone == "target" {
				s.suspend(t)
			} else {
				pgtest.Exec(t, adminOf(t, s.sourceCluster, "postgres"), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%CREATE SCHEMA crossfade%'`)
			}
			if c.held != c.gone {
				pgtest.Exec(t, blocker, "ROLLBACK")
			} else {
				_ = blocker.Close(context.Background())
			}
			if args[0] == "copy" {
				require.Equal(t, 0, p.wait(), p.log.tail())
				requireSameRows(t, s)
				return
			}
			p.awaitFollowing()
			require.Equal(t, 0, p.stop())
		})
	}
}
