//go:build failpoint

package failpoint

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const childVariable = "CROSSFADE_FAILPOINT_CHILD"

// child starts this test binary again with points armed. It runs only
// TestChild, which passes the points that a test wants to see act.
func child(t *testing.T, points string) (string, *exec.ExitError) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), childVariable+"=1", Variable+"="+points)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return string(out), nil
	}
	exit := &exec.ExitError{}
	require.ErrorAs(t, err, &exit)
	return string(out), exit
}

func TestChild(t *testing.T) {
	if os.Getenv(childVariable) == "" {
		t.Skip("runs only as the child of the other tests")
	}
	for range 3 {
		Here("loop")
		t.Log("passed")
	}
	t.Log("error:", Err("fail"))
}

func TestKillIsSIGKILLAtTheAskedPass(t *testing.T) {
	t.Parallel()
	out, exit := child(t, "loop=kill@3")
	require.NotNil(t, exit, out)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal())
}

func TestErrorIsInjected(t *testing.T) {
	t.Parallel()
	out, exit := child(t, "fail=error")
	require.Nil(t, exit, out)
	require.Contains(t, out, "error: failpoint fail: injected error")
}

func TestUnreadableValueEndsTheProgram(t *testing.T) {
	t.Parallel()
	out, exit := child(t, "loop=explode")
	require.NotNil(t, exit, out)
	require.Contains(t, out, "unknown action")
}
