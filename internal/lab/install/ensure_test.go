package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fake is a machine that records what was run on it.
type fake struct {
	programs []string        // in PATH
	missing  []string        // PostgreSQL's
	fails    map[string]bool // commands, by a part of their text
	gives    bool            // an installation brings what is missing
	ran      []string
	out      bytes.Buffer
}

func (f *fake) machine(root bool) machine {
	return machine{
		root:    root,
		missing: func() ([]string, error) { return f.missing, nil },
		find:    func(p string) bool { return slices.Contains(f.programs, p) },
		run: func(_ context.Context, env []string, argv ...string) error {
			line := strings.Join(slices.Concat(env, argv), " ")
			f.ran = append(f.ran, line)
			for part := range f.fails {
				if strings.Contains(line, part) {
					return errors.New("exit status 100")
				}
			}
			if f.gives && strings.Contains(line, " install ") {
				f.missing = nil
			}
			return nil
		},
		out: &f.out,
	}
}

func TestNothingIsRunWhenNothingIsMissing(t *testing.T) {
	t.Parallel()
	f := &fake{programs: []string{"apt-get"}}
	require.NoError(t, ensure(t.Context(), f.machine(true)))
	require.Empty(t, f.ran)
	require.Empty(t, f.out.String())
}

func TestAptAsRootLeavesNoCluster(t *testing.T) {
	t.Parallel()
	f := &fake{programs: []string{"apt-get"}, missing: []string{"initdb"}, gives: true}
	require.NoError(t, ensure(t.Context(), f.machine(true)))
	require.Equal(t, []string{
		"DEBIAN_FRONTEND=noninteractive apt-get update -q",
		"sh -c " + keepClusterOff,
		"DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql postgresql-client",
		"sh -c " + allowCluster,
	}, f.ran)
}

func TestExtrasAreInstalledAndNotStarted(t *testing.T) {
	t.Parallel()
	f := &fake{programs: []string{"apt-get", "/usr/sbin/haproxy"}}
	extras(t.Context(), f.machine(true), []string{"pgbouncer", "haproxy"})
	require.Equal(t, []string{
		"DEBIAN_FRONTEND=noninteractive apt-get update -q",
		"sh -c " + keepQuiet,
		"DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends pgbouncer",
		"sh -c " + allowServices,
	}, f.ran)
}

func TestExtrasThatCannotBeHadAreNamed(t *testing.T) {
	t.Parallel()
	for _, f := range []*fake{{}, {programs: []string{"apt-get"}, fails: map[string]bool{"apt-get install": true}}} {
		extras(t.Context(), f.machine(true), []string{"pgbouncer"})
		require.Contains(t, f.out.String(), "pgbouncer: not installed")
	}
	f := &fake{programs: []string{"pgbouncer"}}
	extras(t.Context(), f.machine(true), []string{"pgbouncer"})
	require.Empty(t, f.ran)
}

func TestSomebodyElseGoesThroughSudo(t *testing.T) {
	t.Parallel()
	f := &fake{programs: []string{"apt-get", "sudo"}, missing: []string{"initdb"}, gives: true}
	require.NoError(t, ensure(t.Context(), f.machine(false)))
	require.Equal(t, "sudo -n true", f.ran[0])
	require.Contains(t, f.ran, "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql postgresql-client")
	for _, line := range f.ran {
		require.True(t, strings.HasPrefix(line, "sudo -n "), line)
	}
}

func TestWithoutRootTheCommandToTypeIsNamed(t *testing.T) {
	t.Parallel()
	for _, f := range []*fake{
		{programs: []string{"apt-get"}, missing: []string{"initdb"}},
		{programs: []string{"apt-get", "sudo"}, missing: []string{"initdb"}, fails: map[string]bool{"sudo -n true": true}},
	} {
		err := ensure(t.Context(), f.machine(false))
		require.ErrorContains(t, err, "sudo apt-get install -y --no-install-recommends postgresql postgresql-client")
		require.Equal(t, 1, strings.Count(err.Error()+"\n", "\n"))
	}
}

func TestAnUnknownPackageManagerIsSaidInOneLine(t *testing.T) {
	t.Parallel()
	f := &fake{missing: []string{"initdb", "psql"}}
	err := ensure(t.Context(), f.machine(true))
	require.ErrorContains(t, err, "CROSSFADE_PG_BINDIR")
	require.Contains(t, f.out.String(), "initdb, psql")
	require.Empty(t, f.ran)
}

func TestTheDropInGoesWhenTheInstallationBreaks(t *testing.T) {
	t.Parallel()
	f := &fake{programs: []string{"apt-get"}, missing: []string{"initdb"}, fails: map[string]bool{"apt-get install": true, "apt-get update": true}}
	err := ensure(t.Context(), f.machine(true))
	require.ErrorContains(t, err, "install packages: exit status 100")
	require.Equal(t, "sh -c "+allowCluster, f.ran[len(f.ran)-1])
}

func TestAnInstallationThatBringsNothingIsAnError(t *testing.T) {
	t.Parallel()
	for _, g := range managers {
		f := &fake{programs: []string{g.name}, missing: []string{"initdb"}}
		require.ErrorContains(t, ensure(t.Context(), f.machine(true)), g.name+" installed its packages, but initdb cannot be found")
	}
}

// The real lookup, on whatever machine runs this test: it has PostgreSQL, or
// its other tests could not run.
func TestThisMachine(t *testing.T) {
	missing, err := missingPrograms()
	require.NoError(t, err)
	require.Empty(t, missing)

	t.Setenv("CROSSFADE_PG_BINDIR", t.TempDir())
	_, err = missingPrograms()
	require.ErrorContains(t, err, "CROSSFADE_PG_BINDIR=", "a wrong directory is the user's to fix, no package helps")
}

func TestALibraryIsInstalledForTheServersVersion(t *testing.T) {
	t.Parallel()
	there := false
	ran := func(programs ...string) []string {
		f := &fake{programs: programs}
		m := f.machine(true)
		m.library = func(string) (int, bool) { return 15, there }
		extras(t.Context(), m, []string{"pg_cron"})
		return f.ran
	}
	require.Contains(t, ran("apt-get"), "DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql-15-cron")
	require.Empty(t, ran("dnf"), "others call it otherwise")
	there = true
	require.Empty(t, ran("apt-get"))
}
