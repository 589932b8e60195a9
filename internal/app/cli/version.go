package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"

	"crossfade/internal/app/exit"
)

// Version is the release that `crossfade version` prints first.
var Version = "0.1.0-dev"

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(e *env) error {
	_, err := fmt.Fprintln(e.stdout, versionLine())
	return err
}

// versionFlag prints what the command of that name does.
type versionFlag bool

// BeforeReset prints the version and ends the program, before any other flag is checked.
func (versionFlag) BeforeReset(app *kong.Kong) error {
	fmt.Fprintln(app.Stdout, versionLine())
	app.Exit(exit.CodeDone)
	return nil
}

// versionLine says what this program is: its release, the commit that it was built from,
// the Go that built it, and the platform that it runs on.
func versionLine() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{GoVersion: runtime.Version()}
	}
	return describe(Version, info, runtime.GOOS+"/"+runtime.GOARCH)
}

// shortCommit is how much of a commit's name is printed.
const shortCommit = 12

func describe(version string, info *debug.BuildInfo, platform string) string {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	commit := settings["vcs.revision"]
	switch {
	case commit == "" && info.Main.Version != "" && info.Main.Version != "(devel)": // of a module that was fetched
		commit = info.Main.Version
	case commit == "":
		commit = "unknown" // built without git, or with -buildvcs=false
	default:
		commit = commit[:min(len(commit), shortCommit)]
	}
	if day, _, ok := strings.Cut(settings["vcs.time"], "T"); ok {
		commit += " of " + day
	}
	if settings["vcs.modified"] == "true" {
		commit += " with changes"
	}
	return fmt.Sprintf("crossfade %s (commit %s, %s, %s)", version, commit, cmp.Or(info.GoVersion, runtime.Version()), platform)
}
