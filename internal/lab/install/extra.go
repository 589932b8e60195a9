package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// Debian starts a service when its package is installed. Nobody asked for that, so
// while these are installed the answer of policy-rc.d is no (invoke-rc.d(8)).
const (
	policy        = "/usr/sbin/policy-rc.d"
	keepQuiet     = "test -e " + policy + " || { printf '#!/bin/sh\\n# crossfade-install\\nexit 101\\n' >" + policy + " && chmod 755 " + policy + "; }"
	allowServices = "if grep -q crossfade-install " + policy + " 2>/dev/null; then rm -f " + policy + "; fi"
)

// libraries are extensions of the server by the name that an argument gives them, and
// what Debian puts after "postgresql-15-" for the package of one.
var libraries = map[string]string{"pg_cron": "cron"}

// extras are programs that are good to have, such as what the benchmark compares
// with, and libraries of the server that some tests load. Programs are called as their
// packages are. What cannot be had is named and is no error.
func extras(ctx context.Context, m machine, names []string) {
	mgr, ok := pick(m.find)
	var missing []string
	for _, n := range names {
		suffix, library := libraries[n]
		switch {
		case library && mgr.name != "apt-get": // the tests that load it say that they are skipped
		case library:
			if major, there := m.library(n); !there {
				missing = append(missing, fmt.Sprintf("postgresql-%d-%s", major, suffix))
			}
		case !m.find(n) && !m.find(filepath.Join("/usr/sbin", n)):
			missing = append(missing, n)
		}
	}
	if len(missing) == 0 {
		return
	}
	if !ok {
		fmt.Fprintf(m.out, "%s: not installed, and no package manager that is known here\n", strings.Join(missing, ", "))
		return
	}
	mgr.packages = missing
	if mgr.guard[0] != "" {
		mgr.guard = [2]string{keepQuiet, allowServices}
	}
	if err := mgr.install(ctx, m); err != nil {
		fmt.Fprintf(m.out, "%s: not installed: %v\n", strings.Join(missing, ", "), err)
	}
}
