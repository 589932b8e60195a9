package cli

import (
	"bytes"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/exit"
)

func TestTheVersionSaysWhatTheProgramIs(t *testing.T) {
	t.Parallel()
	var said []string
	for _, args := range [][]string{{"version"}, {"--version"}, {"--version", "check"}, {"status", "--version"}} {
		var out, errs bytes.Buffer
		require.Equal(t, exit.CodeDone, Main(args, &out, &errs), errs.String())
		require.Empty(t, errs.String())
		said = append(said, out.String())
	}
	for _, s := range said {
		require.Equal(t, said[0], s)
		for _, want := range []string{Version, "commit ", runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH} {
			require.Contains(t, s, want)
		}
	}
}

func TestTheCommitOfAVersion(t *testing.T) {
	t.Parallel()
	built := func(settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{GoVersion: "go1.26.0", Settings: settings}
	}
	const commit = "0123456789abcdef0123456789abcdef01234567"
	require.Equal(t, "crossfade 1.2 (commit 0123456789ab of 2026-11-28 with changes, go1.26.0, darwin/arm64)", describe("1.2", built(
		debug.BuildSetting{Key: "vcs.revision", Value: commit}, debug.BuildSetting{Key: "vcs.time", Value: "2026-11-28T10:00:00Z"},
		debug.BuildSetting{Key: "vcs.modified", Value: "true"}), "darwin/arm64"))
	require.Equal(t, "crossfade 1.2 (commit unknown, go1.26.0, linux/amd64)", describe("1.2", built(), "linux/amd64"))
	fetched := built()
	fetched.Main.Version = "v1.2.3"
	require.Equal(t, "crossfade 1.2 (commit v1.2.3, go1.26.0, linux/amd64)", describe("1.2", fetched, "linux/amd64"))
}
