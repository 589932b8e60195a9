package archive

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
)

const (
	// maxArchive bounds the memory that a schema may take; an archive is kept in
	// one bytea value, which holds less than 1 GiB.
	maxArchive = 256 << 20
	// maxStderr is how much of pg_dump's messages becomes part of an error.
	maxStderr = 4 << 10
	// dumpStopDelay is how long pg_dump may take to end after it was told to.
	dumpStopDelay = 5 * time.Second
	// DefaultDumpLockTimeout bounds pg_dump's wait for a table that a migration of
	// the application has locked; Dump is then to be called again.
	DefaultDumpLockTimeout = 10 * time.Second
)

// DumpConfig says what to dump.
type DumpConfig struct {
	DSN         pg.DSN
	Snapshot    string        // an exported snapshot, kept open by its owner; "" for pg_dump's own
	LockTimeout time.Duration // for each table's ACCESS SHARE lock; DefaultDumpLockTimeout if 0
	Filter      Filter
	NoACL       bool // without privileges
	NoComments  bool
	Name        string // what the session does, for application_name; "dump" if ""
}

// Dump runs pg_dump and returns a custom-format archive of the database's
// schema, without data, publications, subscriptions and the schema crossfade.
// The password is handed over in the environment. pg_dump must not be older
// than the server; where none such is found the error wraps ErrNoDump.
func Dump(ctx context.Context, cfg DumpConfig) ([]byte, error) {
	if cfg.DSN.IsZero() {
		return nil, errors.New("dump schema: no connection string")
	}
	version, err := serverVersion(ctx, cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("dump schema: %w", err)
	}
	program, err := FindProgram(ctx, version/10000)
	if err != nil {
		return nil, fmt.Errorf("dump schema: %w", err)
	}
	archive, err := runDump(ctx, program, cfg)
	return archive, pg.Wrap(err, "dump schema of %s", cfg.DSN.Redacted())
}

func runDump(ctx context.Context, program Program, cfg DumpConfig) ([]byte, error) {
	name := cfg.DSN.SessionName(cmp.Or(cfg.Name, "dump"))
	conninfo, env := cfg.DSN.WithApplicationName(name).LibpqEnv()
	out := &limitedBuffer{limit: maxArchive}
	words := &limitedBuffer{limit: maxStderr, truncate: true}
	cmd := exec.CommandContext(ctx, program.Path, dumpArguments(cfg, conninfo)...)
	cmd.Env = append(append(os.Environ(), env...), "LC_MESSAGES=C")
	cmd.Stdout, cmd.Stderr = out, words
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = dumpStopDelay
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case out.full:
		return nil, fmt.Errorf("the archive is larger than %d MiB", maxArchive>>20)
	case err != nil:
		return nil, fmt.Errorf("run %s: %w: %s", program.Path, err, strings.TrimSpace(words.bytes.String()))
	}
	return out.bytes.Bytes(), nil
}

func dumpArguments(cfg DumpConfig, conninfo string) []string {
	timeout := cmp.Or(cfg.LockTimeout, DefaultDumpLockTimeout)
	args := []string{
		"--format=custom", "--compress=0", "--schema-only", "--encoding=UTF8", "--no-password",
		"--no-publications", "--no-subscriptions", "--exclude-schema=" + catalog.OwnSchema,
		"--lock-wait-timeout=" + strconv.FormatInt(max(1, timeout.Milliseconds()), 10),
	}
	args = append(args, cfg.Filter.dumpArguments()...)
	if cfg.NoACL {
		args = append(args, "--no-privileges")
	}
	if cfg.NoComments {
		args = append(args, "--no-comments")
	}
	if cfg.Snapshot != "" {
		args = append(args, "--snapshot="+cfg.Snapshot)
	}
	return append(args, "--dbname="+conninfo)
}

func serverVersion(ctx context.Context, dsn pg.DSN) (int, error) {
	conn, err := pg.Connect(ctx, dsn, pg.WithName("dump"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var version string
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('server_version_num')`).Scan(&version); err != nil {
		return 0, fmt.Errorf("ask for the server's version: %w", err)
	}
	return strconv.Atoi(version)
}

// limitedBuffer keeps the first limit bytes. After them it refuses to take
// more, or forgets what comes.
type limitedBuffer struct {
	bytes    bytes.Buffer // not embedded: its ReadFrom would pass by the limit
	limit    int
	truncate bool
	full     bool
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	room := b.limit - b.bytes.Len()
	if len(p) <= room {
		return b.bytes.Write(p)
	}
	b.full = true
	if !b.truncate {
		return 0, errors.New("output is too large")
	}
	b.bytes.Write(p[:room])
	return len(p), nil
}

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
	return Program{Path: path, Major: major}, pg.Wrap(err, "ask %s for its version", path)
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
