package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// BinDirVariable names the environment variable that says where pg_dump is.
const BinDirVariable = "CROSSFADE_PG_BINDIR"

// packagedDumps is where distributions install one pg_dump per major version.
const packagedDumps = "/usr/lib/postgresql/*/bin/pg_dump"

// ErrNoDump says that no pg_dump is there that can dump the source.
var ErrNoDump = errors.New("no suitable pg_dump")

// Program is a pg_dump on this machine.
type Program struct {
	Path  string
	Major int // 15 for 15.4
}

// FindProgram picks the pg_dump for a server of this major version: that in
// CROSSFADE_PG_BINDIR, else that in PATH if it is no wrapper, else the newest packaged one; the
// first of these that is not older than the server.
func FindProgram(ctx context.Context, server int) (Program, error) {
	var older []Program
	var broken error
	for _, path := range dumpPaths() {
		d, err := inspectDump(ctx, path)
		if err != nil {
			broken = errors.Join(broken, err)
			continue
		}
		if d.Major >= server {
			return d, nil
		}
		older = append(older, d)
	}
	if len(older) > 0 {
		newest := slices.MaxFunc(older, func(a, b Program) int { return a.Major - b.Major })
		return Program{}, fmt.Errorf("%w: %s is of PostgreSQL %d, the source of %d, and pg_dump refuses newer servers: "+
			"install postgresql-client-%d or later, or set %s to the directory of its programs",
			ErrNoDump, newest.Path, newest.Major, server, server, BinDirVariable)
	}
	if broken != nil {
		return Program{}, fmt.Errorf("%w: %w", ErrNoDump, broken)
	}
	return Program{}, fmt.Errorf("%w: install postgresql-client-%d or later, or set %s to the directory that holds pg_dump",
		ErrNoDump, server, BinDirVariable)
}

func dumpPaths() []string {
	if dir := os.Getenv(BinDirVariable); dir != "" {
		return []string{filepath.Join(dir, "pg_dump")}
	}
	var paths []string
	if p, err := exec.LookPath("pg_dump"); err == nil && !wrapped(p) {
		paths = append(paths, p)
	}
	packaged, _ := filepath.Glob(packagedDumps) // the pattern is well formed
	slices.SortFunc(packaged, func(a, b string) int { return directoryVersion(b) - directoryVersion(a) })
	return append(paths, packaged...)
}

// wrapped reports whether a program in PATH is only Debian's script that picks one of the packaged
// ones, by rules about local clusters and at the price of an interpreter's start each time.
func wrapped(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	return err == nil && filepath.Base(real) == "pg_wrapper"
}

func directoryVersion(path string) int {
	v, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0 for another name
	return v
}

var dumpVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

func inspectDump(ctx context.Context, path string) (Program, error) {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return Program{}, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	m := dumpVersion.FindSubmatch(out)
	if m == nil {
		return Program{}, fmt.Errorf("ask %s for its version: it says %.80q", path, out)
	}
	major, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return Program{}, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	return Program{Path: path, Major: major}, nil
}

// DumpMajor returns the major version of the pg_dump that Dump would run for a
// server of this major version, or of the newest there is when all are older.
func DumpMajor(ctx context.Context, server int) (int, error) {
	d, err := FindProgram(ctx, server)
	if err != nil {
		d, err = FindProgram(ctx, 0)
	}
	return d.Major, err
}
