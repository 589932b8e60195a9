package e2e_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// slowCopy starts a copy that goes on only once its rate is changed, and waits until it
// copies rows.
func slowCopy(t *testing.T) (*sides, *process) {
	t.Helper()
	s := newSides(t)
	lockSchema(t, s)
	p := newProcess(t, s)
	p.command = []string{"copy", "--control=" + p.socket, "--max-rate=1k", "--jobs=1"}
	p.start()
	p.await("rows are copied", func(st control.Status) bool { return st.Copy.BytesDone > 0 })
	return s, p
}

func (s *sides) requireBig(t *testing.T) {
	t.Helper()
	const rows = "SELECT count(*) FROM public.big"
	require.Equal(t, pgtest.Value(t, pgtest.Conn(t, s.source), rows), pgtest.Value(t, pgtest.Conn(t, s.target), rows))
}

// A copy whose sessions are ended once, those that rest included, opens new ones and goes on.
func TestACopyGoesOnAfterItsSessionsWereTerminated(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"source", "target"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			s, p := slowCopy(t)
			cluster, dsn := s.cluster(side)
			ended := pgtest.Value(t, adminOf(t, cluster, "postgres"), "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'crossfade%' AND datname = '"+dsn.Database()+"'")
			require.NotEqual(t, "0", ended)
			out, code := program(t, nil, "limits", "--control="+p.socket, "--max-rate=none")
			require.Equal(t, 0, code, out)
			require.Equal(t, 0, p.wait(), p.log)
			s.requireBig(t)
		})
	}
}

// A copy that is told to stop says what stays and how to go on, and does so by that.
func TestACopyThatIsInterruptedSaysHowToGoOn(t *testing.T) {
	t.Parallel()
	s, p := slowCopy(t)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	require.Equal(t, 3, p.wait())
	for _, want := range []string{"stopped as asked", "stay on the target", "run the same command again to continue", "crossfade clean"} {
		require.Contains(t, p.log.String(), want)
	}
	out, code := s.say(t, nil, "copy")
	require.Equal(t, 0, code, out)
	s.requireBig(t)
}

// The reader of a copy's output may leave: the copy continues.
func TestACopyOutlivesItsReader(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	lockSchema(t, s)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	cmd := exec.Command(binary, "copy", "--log-level=debug")
	cmd.Env = append(os.Environ(), s.env()...)
	cmd.Stdout, cmd.Stderr = w, w
	require.NoError(t, r.Close())
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	require.NoError(t, cmd.Wait())
	s.requireBig(t)
}
