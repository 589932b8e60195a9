package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Debian starts a service when its package is installed. Nobody asked for that, so
// while these are installed the answer of policy-rc.d is no (invoke-rc.d(8)).
const (
	policy        = "/usr/sbin/policy-rc.d"
	keepQuiet     = "test -e " + policy + " || { printf '#!/bin/sh\\n# crossfade-install\\nexit 101\\n' >" + policy + " && chmod 755 " + policy + "; }"
	allowServices = "if grep -q crossfade-install " + policy + " 2>/dev/null; then rm -f " + policy + "; fi"
)

// extras are programs that are good to have, such as what the benchmark compares
// with. They are called as their packages are. What cannot be had is named and is no
// error.
func extras(ctx context.Context, m machine, programs []string) {
	missing := slices.DeleteFunc(slices.Clone(programs), func(p string) bool {
		return m.find(p) || m.find(filepath.Join("/usr/sbin", p))
	})
	if len(missing) == 0 {
		return
	}
	mgr, ok := pick(m.find)
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
