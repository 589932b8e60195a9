package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// manager is a package manager and what it calls PostgreSQL.
type manager struct {
	name     string
	refresh  []string // reads the list of packages first; may be nil
	command  []string // installs without a question
	packages []string
	env      []string
	guard    [2]string // shell commands before and after: Debian's package starts a cluster of its own
}

var managers = []manager{
	{
		name:     "apt-get",
		refresh:  []string{"apt-get", "update", "-q"},
		command:  []string{"apt-get", "install", "-q", "-y", "--no-install-recommends"},
		packages: []string{"postgresql", "postgresql-client"},
		env:      []string{"DEBIAN_FRONTEND=noninteractive"},
		guard:    [2]string{keepClusterOff, allowCluster},
	},
	{name: "dnf", command: []string{"dnf", "install", "-y"}, packages: []string{"postgresql-server", "postgresql", "postgresql-contrib"}},
	{name: "yum", command: []string{"yum", "install", "-y"}, packages: []string{"postgresql-server", "postgresql", "postgresql-contrib"}},
	{name: "apk", command: []string{"apk", "add"}, packages: []string{"postgresql", "postgresql-client", "postgresql-contrib"}},
	{name: "pacman", command: []string{"pacman", "-Sy", "--noconfirm", "--needed"}, packages: []string{"postgresql"}},
	{name: "zypper", command: []string{"zypper", "--non-interactive", "install"}, packages: []string{"postgresql-server", "postgresql", "postgresql-contrib"}},
}

// pick returns the first package manager that this machine has.
func pick(find func(string) bool) (manager, bool) {
	i := slices.IndexFunc(managers, func(m manager) bool { return find(m.name) })
	if i < 0 {
		return manager{}, false
	}
	return managers[i], true
}

func names() []string {
	var all []string
	for _, m := range managers {
		all = append(all, m.name)
	}
	return all
}

// byHand is the command that a person types instead.
func (g manager) byHand() string {
	parts := slices.Concat(g.command, g.packages)
	return "sudo " + strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "-q" }), " ")
}

// install runs the package manager as root, through sudo where the caller is someone else and sudo
// asks for no password.
func (g manager) install(ctx context.Context, m machine) (err error) {
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	as := m.asRoot
	if !m.root {
		if !m.find("sudo") || m.run(ctx, nil, "sudo", "-n", "true") != nil {
			return fmt.Errorf("installing packages needs root: run %q, then try again", g.byHand())
		}
		as = m.throughSudo
	}
	if g.refresh != nil {
		// A list that cannot be read again may still name the packages.
		if err := as(ctx, g.env, g.refresh...); err != nil {
			fmt.Fprintf(m.out, "%s: %v; going on with the list that is there\n", strings.Join(g.refresh, " "), err)
		}
	}
	if g.guard[0] != "" {
		if err := as(ctx, nil, "sh", "-c", g.guard[0]); err != nil {
			return fmt.Errorf("keep the packages from starting servers: %w", err)
		}
		defer func() {
			// The drop-in must go even when the user has interrupted us.
			if e := as(context.WithoutCancel(ctx), nil, "sh", "-c", g.guard[1]); e != nil && err == nil {
				err = fmt.Errorf("let packages start servers again: %w", e)
			}
		}()
	}
	if err := as(ctx, g.env, slices.Concat(g.command, g.packages)...); err != nil {
		return fmt.Errorf("install packages: %w; run %q to see more", err, g.byHand())
	}
	return nil
}

func (m machine) asRoot(ctx context.Context, env []string, argv ...string) error {
	return m.run(ctx, env, argv...)
}

// throughSudo hands the environment over on the command line, since sudo
// clears it.
func (m machine) throughSudo(ctx context.Context, env []string, argv ...string) error {
	return m.run(ctx, nil, slices.Concat([]string{"sudo", "-n", "env"}, env, argv)...)
}
