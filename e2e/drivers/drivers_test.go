package drivers

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// moves is how often each loop's session is moved, and movesShort how often where
// the tests are to be short.
const (
	moves      = 20
	movesShort = 4
)

const (
	// python is Debian's, to which Debian's modules belong.
	python = "/usr/bin/python3"
	// jdbc is the driver of Debian's libpostgresql-jdbc-java.
	jdbc = "/usr/share/java/postgresql.jar"
)

// driver is one driver and how its loop is started.
type driver struct {
	name  string
	modes []string // ways of using it; short tests try the first
	// probe ends with status 0 where the driver is installed.
	probe   []string
	command []string
	env     []string
	// inside is the loop of a driver that this test is built with.
	inside func(g *rig, mode string) func(ctx context.Context, stop <-chan struct{}, out io.Writer) error
}

func drivers(t *testing.T) []driver {
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	installed := filepath.Join(cache, "crossfade", "drivers") // as in the script install
	modules := []string{"NODE_PATH=" + filepath.Join(installed, "node_modules")}
	pq := filepath.Join(installed, "libpq")
	py := []string{"PYTHONDONTWRITEBYTECODE=1"}
	return []driver{
		{name: "psql", modes: []string{"prepare"}, probe: []string{"psql", "--version"}, command: []string{"bash", "psql/loop"}},
		{name: "psycopg2", modes: []string{"text"}, probe: []string{python, "-c", "import psycopg2"}, command: []string{python, "python/with_psycopg2.py"}, env: py},
		{name: "psycopg", modes: []string{"binary", "text", "pipeline"}, probe: []string{python, "-c", "import psycopg"}, command: []string{python, "python/with_psycopg.py"}, env: py},
		{name: "asyncpg", modes: []string{"prepared", "cached"}, probe: []string{python, "-c", "import asyncpg"}, command: []string{python, "python/with_asyncpg.py"}, env: py},
		{name: "jdbc", modes: []string{"prepared", "simple"}, probe: []string{"javac", "-cp", jdbc, "-version", "-proc:none"}, command: []string{"java", "-XX:TieredStopAtLevel=1", "-cp", jdbc, "java/Loop.java"}},
		{name: "node-postgres", modes: []string{"named", "unnamed"}, probe: []string{"node", "-e", "require('pg')"}, command: []string{"node", "node/with_pg.js"}, env: modules},
		{name: "postgres.js", modes: []string{"prepared", "unprepared"}, probe: []string{"node", "-e", "require('postgres')"}, command: []string{"node", "node/with_postgres.js"}, env: modules},
		{name: "ruby-pg", modes: []string{"text", "binary"}, probe: []string{"ruby", "-e", "require 'pg'"}, command: []string{"ruby", "ruby/loop.rb"}},
		{name: "lib-pq", modes: []string{"binary", "text"}, probe: []string{pq, "-version"}, command: []string{pq}},
		{name: "pgx", modes: []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"}, inside: pgxLoop},
	}
}

// installed tells whether a driver is there.
func (d *driver) installed(t *testing.T) bool {
	if d.inside != nil {
		return true
	}
	if d.name == "jdbc" {
		if _, err := os.Stat(jdbc); err != nil {
			return false
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.probe[0], d.probe[1:]...)
	cmd.Env = append(os.Environ(), d.env...)
	return cmd.Run() == nil
}

// need passes a test over where a driver is not installed.
func (d *driver) need(t *testing.T) {
	t.Helper()
	if d.installed(t) {
		return
	}
	if os.Getenv("CROSSFADE_DRIVERS") == "all" {
		t.Fatalf("%s is not installed: %v does not end with status 0; run e2e/drivers/install", d.name, d.probe)
	}
	t.Skipf("%s is not installed; make e2e-drivers installs it", d.name)
}

func TestNoDriverNoticesAMove(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	n := moves
	if testing.Short() {
		n = movesShort
	}
	for _, d := range drivers(t) {
		for i, mode := range d.modes {
			if testing.Short() && i > 0 {
				continue
			}
			t.Run(d.name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				d.need(t)
				moveAround(t, newRig(t, p), d, mode, n)
			})
		}
	}
}

// TestNoDriverNoticesThatItConnectsAfterASwitch: what it learns of types then is the
// source's numbers too, and true when it is moved back.
func TestNoDriverNoticesThatItConnectsAfterASwitch(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("all drivers again")
	}
	p := newPair(t)
	for _, d := range drivers(t) {
		for _, mode := range d.modes {
			t.Run(d.name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				d.need(t)
				g := newRig(t, p)
				g.switchFirst(t)
				moveAround(t, g, d, mode, 3)
			})
		}
	}
}

// moveAround moves a loop's session to and fro n times, with a round of it at least
// between two moves.
func moveAround(t *testing.T, g *rig, d driver, mode string, n int) {
	var l *loop
	if d.inside != nil {
		l = startFunction(t, d.inside(g, mode))
	} else {
		env := append([]string{"CROSSFADE_LOOP=" + d.name + "/" + mode, "CROSSFADE_MODE=" + mode}, d.env...)
		l = startProgram(t, append(env, g.env...), d.command)
	}
	err := l.awaitRound(1)
	for i := 0; i < n && err == nil; i++ {
		if err = g.move(1); err == nil {
			err = l.awaitRound(l.rounds() + 1)
		}
	}
	l.close()
	status := make(chan error, 1)
	go func() { status <- l.wait() }()
	var ended error
	select {
	case ended = <-status:
	case <-time.After(patience):
		t.Fatalf("the loop does not end when its input is closed")
	}
	t.Logf("%s: %d rounds, %d operations, %d moves in all, %d pauses that did not drain, %d connections", l.version, l.last.Round, l.last.Operations, g.epoch, g.retried, g.accepted.Load())
	require.Empty(t, l.errors, "%v\n%s", err, l.words)
	require.NoError(t, err, "%s", l.words)
	require.NoError(t, ended, "%s", l.words)
	require.NotEmpty(t, l.version)
	require.Greater(t, l.last.Round, n)
	require.EqualValues(t, 1, g.accepted.Load(), "connections of the loop")
	require.Zero(t, g.Status().ClientErrors)
}
