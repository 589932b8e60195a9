package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"crossfade/internal/lab/neonlike/neontest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// binary is the program under test.
var binary string

// sideBySide is how many tests run at once where nothing else is asked for: more
// than there are cores, since they wait for servers most of the time.
const sideBySide = "5"

// sampleOnly skips a part of a test with -short, unless it is one of those that stand for
// the rest: "make test" tries these, "make e2e" all.
func sampleOnly(t *testing.T, stands ...string) {
	t.Helper()
	_, part, _ := strings.Cut(t.Name(), "/")
	if testing.Short() && !slices.Contains(stands, strings.ReplaceAll(part, "_", " ")) {
		t.Skip("with -short only a sample is tried")
	}
}

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", sideBySide); err != nil {
		panic(err)
	}
	flag.Parse() // what the command line says comes last
	dir, err := os.MkdirTemp("", "crossfade-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "crossfade")
	args := []string{"build", "-buildvcs=false", "-tags", "failpoint", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "crossfade/cmd/crossfade")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build crossfade: %v\n%s", err, out)
		os.RemoveAll(dir)
		os.Exit(1)
	}
	pgtest.Main(m, neontest.Close, func() error { return os.RemoveAll(dir) })
}
