package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/neonlike"
	"crossfade/internal/lab/pgcluster"
)

// program is one that is measured.
type program struct{ name, path string }

// figure is one measurement.
type figure struct {
	applied          float64 // transactions a second
	pause            float64 // gate closed to gate open, in ms
	heldP99, heldMax float64 // ms
	steps            []step  // of the cutover, in its order
}

// step is one line of a cutover's timeline.
type step struct {
	name string
	at   float64 // since the gate was asked to close, in ms
}

// Bounds of the waits.
const (
	phaseTimeout = 3 * time.Minute
	stopTimeout  = 20 * time.Second
	poll         = 5 * time.Millisecond
)

// site is what one measurement runs on.
type site struct {
	o      options
	dir    string
	source *pgcluster.Cluster
	target *neonlike.Project
	app    pg.DSN // of the application, at the source
	port   int    // of the proxy
	client *control.Client
	socket string // where client asks
	cmd    *exec.Cmd
	log    bytes.Buffer
}

// measureOne takes one program through a migration.
func measureOne(ctx context.Context, o options, p program) (f figure, err error) {
	s := &site{o: o}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.prepare(ctx); err != nil {
		return f, err
	}
	if err := s.start(ctx, p); err != nil {
		return f, err
	}
	following := func(st control.Status) bool { return st.Phase == "following" && st.Ready }
	if err := s.await(ctx, following); err != nil {
		return f, err
	}
	if f.applied, err = s.catchUp(ctx); err != nil {
		return f, err
	}
	if err := s.await(ctx, following); err != nil {
		return f, err
	}
	return f, s.cutover(ctx, &f)
}

// prepare starts the clusters and fills pgbench's tables.
func (s *site) prepare(ctx context.Context) (err error) {
	if s.dir, err = os.MkdirTemp("", "crossfade-bench-"); err != nil {
		return err
	}
	if s.source, err = pgcluster.Start(ctx, pgcluster.Config{InitArgs: []string{"--locale=C.UTF-8"},
		Settings: map[string]string{"wal_level": "logical", "max_wal_size": "4GB", "shared_buffers": "256MB"}}); err != nil {
		return err
	}
	if s.target, err = neonlike.Start(ctx, false, neonlike.Options{}); err != nil {
		return err
	}
	password := rand.Text()
	if err := execute(ctx, s.source.AdminDSN("postgres"), "CREATE ROLE bench LOGIN REPLICATION PASSWORD "+pg.QuoteLiteral(password),
		"GRANT pg_monitor, pg_signal_backend TO bench", "CREATE DATABASE bench OWNER bench"); err != nil {
		return err
	}
	s.app = s.source.DSN("bench", password, "bench")
	if err := s.pgbench(ctx, s.app.Port(), "-i", "-q", "-s", strconv.Itoa(s.o.scale)); err != nil {
		return err
	}
	return execute(ctx, s.app, "ALTER TABLE public.pgbench_history REPLICA IDENTITY FULL")
}

func execute(ctx context.Context, dsn pg.DSN, statements ...string) error {
	conn, err := pg.Connect(ctx, dsn, pg.WithName("bench"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// pgbench runs it against a port of this machine.
func (s *site) pgbench(ctx context.Context, port int, args ...string) error {
	cmd := exec.CommandContext(ctx, s.source.Binaries().Path("pgbench"), append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(port), "-U", "bench"}, append(args, "bench")...)...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+s.app.Password(), "PGSSLMODE=disable", "PGGSSENCMODE=disable")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pgbench: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// start starts the program.
func (s *site) start(ctx context.Context, p program) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return err
	}
	socket := filepath.Join(s.dir, "control")
	s.cmd = exec.CommandContext(ctx, p.path, "run", "--listen", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), "--control", socket)
	s.cmd.Env = append(os.Environ(), "CROSSFADE_SOURCE="+conninfo(s.app), "CROSSFADE_TARGET="+conninfo(s.target.Owner))
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = stopTimeout
	s.client, s.socket = control.NewClient(socket), socket
	return s.cmd.Start()
}

// conninfo writes a connection string with its password, for the environment of a
// program of ours.
func conninfo(dsn pg.DSN) string {
	text, _ := dsn.LibpqEnv()
	return text + " password=" + dsn.Password() // letters and digits
}

// await polls the status until ok.
func (s *site) await(ctx context.Context, ok func(control.Status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, phaseTimeout)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if st, err := s.client.Status(ctx); err == nil && ok(st) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the program: %w; it said: %s", ctx.Err(), bytes.TrimSpace(s.log.Bytes()))
		}
	}
}

// pause stops the program at a moment when it holds no lock that a writer would wait for.
func (s *site) pause(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, phaseTimeout)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		var held bool
		err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = current_database()
			AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') AND l.locktype = 'relation')`).Scan(&held)
		if err == nil && !held {
			return nil
		}
		if err := errors.Join(err, s.cmd.Process.Signal(syscall.SIGCONT)); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("stop the program while it holds no lock: %w", ctx.Err())
		}
	}
}

// catchUp stops the program, writes, lets it go on, and returns how many of the
// transactions it applied a second.
func (s *site) catchUp(ctx context.Context) (float64, error) {
	conn, err := pg.Connect(ctx, s.app, pg.WithName("bench"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := s.pause(ctx, conn); err != nil {
		return 0, err
	}
	err = s.pgbench(ctx, s.app.Port(), "-n", "-c", strconv.Itoa(s.o.clients), "-t", strconv.Itoa(s.o.transactions/s.o.clients))
	began := time.Now()
	if err := errors.Join(err, s.cmd.Process.Signal(syscall.SIGCONT)); err != nil {
		return 0, err
	}
	var written string
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&written); err != nil {
		return 0, err
	}
	end, err := pg.ParseLSN(written)
	if err != nil {
		return 0, err
	}
	err = s.await(ctx, func(st control.Status) bool {
		applied, err := pg.ParseLSN(st.Replication.AppliedLSN)
		return err == nil && applied >= end
	})
	return float64(s.o.transactions) / time.Since(began).Seconds(), err
}

// ask asks for the cutover by the program's own command, since its control protocol may differ from
// ours.
func (s *site) ask(ctx context.Context) (r control.CutoverReport, err error) {
	cmd := exec.CommandContext(ctx, s.cmd.Path, "cutover", "--json", "--control="+s.socket)
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("cutover: %w: %s", err, bytes.TrimSpace(out))
	}
	return r, json.Unmarshal(out, &r)
}

// cutover lets pgbench write through the proxy and cuts over amid it. An error that
// a client sees fails the measurement.
func (s *site) cutover(ctx context.Context, f *figure) error {
	written := make(chan error, 1)
	go func() {
		written <- s.pgbench(ctx, s.port, "-n", "-c", strconv.Itoa(s.o.clients), "-j", "2", "-T", strconv.Itoa(s.o.seconds))
	}()
	err := s.await(ctx, func(st control.Status) bool { return st.Proxy.Sessions >= s.o.clients && st.Proxy.InTransaction > 0 })
	if err == nil {
		var r control.CutoverReport
		r, err = s.ask(ctx)
		if err == nil && r.Outcome != control.OutcomeSwitched {
			err = fmt.Errorf("the cutover ended with %q: %s", r.Outcome, r.Reason)
		}
		f.steps = steps(r)
		f.pause, f.heldP99, f.heldMax = float64(r.PauseMS), float64(r.Held.P99MS), float64(r.Held.MaxMS)
	}
	return errors.Join(err, <-written)
}

// steps reads a timeline. The second time that a step comes its name has a 2 after it, and so on.
func steps(r control.CutoverReport) (all []step) {
	times := map[string]int{}
	for _, e := range r.Timeline {
		name := e.Step
		if times[name]++; times[name] > 1 {
			name += " " + strconv.Itoa(times[name])
		}
		all = append(all, step{name: name, at: e.AtMS})
	}
	return all
}

func (s *site) close() error {
	var errs []error
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = s.cmd.Wait()                          // its exit code is no figure
	}
	if s.target != nil {
		errs = append(errs, s.target.Close())
	}
	if s.source != nil {
		errs = append(errs, s.source.Close())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}
