package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"crossfade/internal/base/pg"
)

// The contenders. The last two copy rows only.
const (
	crossfade = "crossfade"
	before    = "before" // another program of ours, given by -before
	dumpDir   = "dump-dir"
	dumpPipe  = "dump-pipe"
	pgcopydb  = "pgcopydb"
	dataCross = "data-crossfade"
	dataPsql  = "data-psql"
)

func contenderNames() []string {
	return []string{crossfade, dumpDir, dumpPipe, pgcopydb, dataCross, dataPsql}
}

type contender struct {
	name string
	data bool // rows only, into tables that are there
	run  func(ctx context.Context, source, target pg.DSN) (shot, error)
}

// shot is one run.
type shot struct {
	wall    time.Duration
	cpu     time.Duration // of the client programs
	servers time.Duration // CPU time of both servers' processes that have ended
	rss     int64         // greatest resident memory of a client process in bytes
}

func (f *field) contender(name string) (contender, error) {
	c := contender{name: name}
	switch name {
	case crossfade:
		if _, err := os.Stat(f.o.binary); err != nil {
			return c, fmt.Errorf("%w: build it first, by make build", err)
		}
		c.run = func(ctx context.Context, source, target pg.DSN) (shot, error) {
			return f.copied(ctx, f.o.binary, source, target)
		}
	case before:
		c.run = func(ctx context.Context, source, target pg.DSN) (shot, error) {
			return f.copied(ctx, f.o.before, source, target)
		}
	case dumpDir:
		c.run = f.dumpDir
	case dumpPipe:
		c.run = func(ctx context.Context, source, target pg.DSN) (shot, error) {
			return timed(exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf("%s -Fc -d '%s' | %s -d '%s'", f.path("pg_dump"), uri(source), f.path("pg_restore"), uri(target))))
		}
	case pgcopydb:
		if len(f.o.pgcopydb) == 0 {
			return c, errors.New("no command is given")
		}
		if out, err := exec.Command(f.o.pgcopydb[0], append(f.o.pgcopydb[1:], "--version")...).CombinedOutput(); err != nil {
			return c, fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
		}
		c.run = f.pgcopydb
	case dataCross:
		c.data, c.run = true, f.dataCrossfade
	case dataPsql:
		c.data, c.run = true, f.dataPsql
	default:
		return c, fmt.Errorf("nobody knows the contender %q", name)
	}
	return c, nil
}

func (f *field) copied(ctx context.Context, program string, source, target pg.DSN) (shot, error) {
	args := []string{"copy", "--source", uri(source), "--target", uri(target)}
	if f.o.jobs > 0 {
		args = append(args, "--jobs", strconv.Itoa(f.o.jobs))
	}
	return timed(exec.CommandContext(ctx, program, args...))
}

func (f *field) dumpDir(ctx context.Context, source, target pg.DSN) (shot, error) {
	dir := filepath.Join(f.dir, "dump")
	defer os.RemoveAll(dir)
	dump, err := timed(exec.CommandContext(ctx, f.path("pg_dump"), "-Fd", "-j2", "-f", dir, "-d", uri(source)))
	if err != nil {
		return shot{}, err
	}
	restore, err := timed(exec.CommandContext(ctx, f.path("pg_restore"), "-j2", "-d", uri(target), dir))
	return shot{wall: dump.wall + restore.wall, cpu: dump.cpu + restore.cpu, rss: max(dump.rss, restore.rss)}, err
}

// pgcopydb runs with its own numbers of jobs.
func (f *field) pgcopydb(ctx context.Context, source, target pg.DSN) (shot, error) {
	dir := fmt.Sprintf("/tmp/pgcopydb-%d-%d", os.Getpid(), time.Now().UnixNano()) // where the command runs, which may be another root
	args := append(f.o.pgcopydb[1:], "clone", "--source", uri(source), "--target", uri(target), "--dir", dir, "--fail-fast")
	return timed(exec.CommandContext(ctx, f.o.pgcopydb[0], args...))
}

// timed runs a command. What it says is told only when it fails.
func timed(cmd *exec.Cmd) (shot, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	began := time.Now()
	err := cmd.Run()
	s := shot{wall: time.Since(began)}
	if err != nil {
		return s, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, tail(out.Bytes()))
	}
	s.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.rss = u.Maxrss << 10
	}
	return s, nil
}

func tail(b []byte) []byte {
	b = bytes.TrimSpace(b)
	return b[max(0, len(b)-2000):]
}
