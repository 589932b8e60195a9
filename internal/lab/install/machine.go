package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"crossfade/internal/lab/pgcluster"
)

// programs are those that the demo and the tests start.
var programs = []string{"initdb", "postgres", "pg_ctl", "psql", "pg_dump", "pg_restore"}

func thisMachine() machine {
	return machine{
		root:    os.Geteuid() == 0,
		missing: missingPrograms,
		find:    inPath,
		run:     runCommand,
		library: hasLibrary,
		out:     os.Stderr,
	}
}

// hasLibrary reports whether the server that the tests start has a library, and its
// major version.
func hasLibrary(name string) (major int, there bool) {
	set, err := pgcluster.Find()
	return set.Major, err != nil || set.HasLibrary(name) // without a server there is nothing to load it
}

func inPath(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// missingPrograms returns an error only where installing a package would not
// help: the user named a directory that does not hold them.
func missingPrograms() ([]string, error) {
	set, err := pgcluster.Find()
	if errors.Is(err, pgcluster.ErrNoBinaries) {
		return programs, nil
	}
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, p := range programs {
		if !inPath(set.Path(p)) { // an absolute path is looked up as it is
			missing = append(missing, p)
		}
	}
	return missing, nil
}

func runCommand(ctx context.Context, env []string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	// A package manager that is killed leaves its database broken.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return nil
}
