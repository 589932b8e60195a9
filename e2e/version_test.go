package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What go install leaves is the whole program, without anything that make would add.
func TestGoInstallGivesAWorkingProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// As make build has it: where git does not let us read the checkout, the commit is left out.
	vcs := "-buildvcs=auto"
	if exec.Command("git", "rev-parse", "--git-dir").Run() != nil {
		vcs = "-buildvcs=false"
	}
	install := exec.Command("go", "install", vcs, "crossfade/cmd/crossfade")
	install.Env = append(os.Environ(), "GOBIN="+dir)
	out, err := install.CombinedOutput()
	require.NoError(t, err, string(out))
	crossfade := filepath.Join(dir, "crossfade")
	for _, args := range [][]string{{"version"}, {"--version"}} {
		out, err := exec.Command(crossfade, args...).CombinedOutput()
		require.NoError(t, err, string(out))
		require.Contains(t, string(out), runtime.Version()+", "+runtime.GOOS+"/"+runtime.GOARCH)
		if commit, err := exec.Command("git", "rev-parse", "HEAD").Output(); err == nil {
			require.Contains(t, string(out), "commit "+strings.TrimSpace(string(commit))[:12])
		}
	}
	s := newSides(t)
	check := exec.Command(crossfade, "check", "--json")
	check.Env = append(os.Environ(), s.env()...)
	out, err = check.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), `"ready": true`)
}
