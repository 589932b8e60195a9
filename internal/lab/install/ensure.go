package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"crossfade/internal/lab/pgcluster"
)

// installTimeout bounds the whole installation: a slow mirror needs minutes,
// and a package manager that waits for a lock must not hang a build for ever.
const installTimeout = 15 * time.Minute

// machine is what ensure knows of and does to the system. Tests replace it.
type machine struct {
	root    bool
	missing func() ([]string, error)                                      // programs that are not there
	find    func(program string) bool                                     // is it in PATH
	run     func(ctx context.Context, env []string, argv ...string) error // shows the output
	library func(name string) (major int, there bool)                     // of the server
	out     io.Writer
}

// ensure returns when every program that is needed is there.
func ensure(ctx context.Context, m machine) error {
	missing, err := m.missing()
	if err != nil {
		return err
	}
	if len(missing) == 0 {
		return nil
	}
	fmt.Fprintf(m.out, "PostgreSQL programs are missing: %s\n", strings.Join(missing, ", "))

	mgr, ok := pick(m.find)
	if !ok {
		return fmt.Errorf("no package manager that is known here (%s): install PostgreSQL's server and client programs yourself, "+
			"then put them into PATH or set %s to the directory that holds them", strings.Join(names(), ", "), pgcluster.BinDirVariable)
	}
	if err := mgr.install(ctx, m); err != nil {
		return err
	}

	missing, err = m.missing()
	if err != nil {
		return err
	}
	if len(missing) != 0 {
		return fmt.Errorf("%s installed its packages, but %s cannot be found: set %s to the directory that holds them",
			mgr.name, strings.Join(missing, ", "), pgcluster.BinDirVariable)
	}
	return nil
}
