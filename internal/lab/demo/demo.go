package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"crossfade/internal/app/control"
	"crossfade/internal/app/daemon"
	"crossfade/internal/app/options"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/workload"
)

// Config says how large the demo is.
type Config struct {
	Clients int
	Shop    workload.Shop
	Version string
	Log     zerolog.Logger
	OnCopy  func(control.Copy)
	Out     io.Writer
}

// Bounds of the demo's waits: a shared machine of two cores may be slow.
const (
	setupTimeout  = 2 * time.Minute
	phaseTimeout  = 3 * time.Minute
	stopTimeout   = 30 * time.Second
	beforeSwitch  = 150 // transactions of each client that are awaited before the cutover
	afterSwitch   = 150 // and after it
	clientRate    = 60  // transactions a second of each client: load, but room for the demo's own work
	sourceTimeout = 200 * time.Millisecond
)

// Run plays the demo and prints its report to cfg.Out.
func Run(ctx context.Context, cfg Config) (err error) {
	step := func(format string, args ...any) { fmt.Fprintf(cfg.Out, "==> "+format+"\n", args...) }
	setup, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	step("starting two clusters: a PostgreSQL source, and a target that is like Neon")
	c, err := startClusters(setup, cfg.Shop)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()

	d, err := startDaemon(ctx, cfg, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	step("crossfade run serves the applications at %s", d.listen)

	w, err := startClients(ctx, cfg, c, d)
	if err != nil {
		return err
	}
	stopped := false
	defer func() {
		if !stopped {
			stopClients(w)
		}
	}()
	step("%d clients write and read through it", cfg.Clients)
	if err := d.await(ctx, "following", func(s control.Status) bool { return s.Phase == "following" && s.Ready }); err != nil {
		return err
	}
	s, err := d.client.Status(ctx)
	if err != nil {
		return err
	}
	step("copied %d tables, %d rows; following, %d ms behind", s.Copy.TablesTotal, s.Copy.RowsDone, s.Replication.LagMS)
	if err := awaitEach(ctx, w, beforeSwitch); err != nil {
		return err
	}
	step("cutover under load")
	asked := time.Now()
	report, err := d.client.Cutover(ctx, control.CutoverOptions{})
	if err != nil {
		return err
	}
	printTimeline(cfg.Out, report)
	if report.Outcome != control.OutcomeSwitched {
		return fmt.Errorf("the cutover ended with %q: %s", report.Outcome, report.Reason)
	}
	if err := awaitEach(ctx, w, afterSwitch); err != nil {
		return err
	}
	if err := d.await(ctx, "compared", func(s control.Status) bool { return s.Verify.State != "running" && s.Verify.State != "idle" }); err != nil {
		return err
	}
	load := stopClients(w)
	stopped = true
	return judge(ctx, cfg, c, d, load, report, asked)
}

// stopClients lets the clients end what they do, even when the demo is broken off.
func stopClients(w *workload.Workload) workload.Report {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return w.Stop(ctx)
}

func startClients(ctx context.Context, cfg Config, c *clusters, d *running) (*workload.Workload, error) {
	host, port, err := net.SplitHostPort(d.listen)
	if err != nil {
		return nil, err
	}
	dsn, err := pg.ParseDSN(fmt.Sprintf("host=%s port=%s user=shop password=%s dbname=shop sslmode=disable", host, port, c.sourceDSN.Password()))
	if err != nil {
		return nil, err
	}
	b, err := pgcluster.Find()
	if err != nil {
		return nil, err
	}
	return workload.Start(ctx, workload.Config{DSN: dsn, Scenario: cfg.Shop, Clients: cfg.Clients, PSQL: b.Path("psql"), Rate: clientRate})
}

func awaitEach(ctx context.Context, w *workload.Workload, n int) error {
	ctx, cancel := context.WithTimeout(ctx, phaseTimeout)
	defer cancel()
	return w.AwaitEach(ctx, n)
}

// running is the daemon of the demo.
type running struct {
	listen string
	client *control.Client
	cancel context.CancelFunc
	done   chan error
	dir    string
}

func startDaemon(ctx context.Context, cfg Config, c *clusters) (*running, error) {
	dir, err := os.MkdirTemp("", "crossfade-demo-")
	if err != nil {
		return nil, fmt.Errorf("make directory of the control socket: %w", err)
	}
	listen, err := freeAddress()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	socket := filepath.Join(dir, "control.sock")
	ctx, cancel := context.WithCancel(ctx)
	r := &running{listen: listen, client: control.NewClient(socket), cancel: cancel, done: make(chan error, 1), dir: dir}
	go func() {
		r.done <- daemon.Run(ctx, options.Run{Source: c.sourceDSN, Target: c.targetDSN, Listen: listen, Control: socket, Jobs: 4, WALBudget: options.AutoBudget,
			SourceLockTimeout: sourceTimeout, HoldLimit: time.Minute, ShutdownTimeout: 5 * time.Second, Version: cfg.Version}, cfg.Log, cfg.OnCopy)
	}()
	if err := r.await(ctx, "answering", func(control.Status) bool { return true }); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return r, nil
}

func (r *running) stop() error {
	r.cancel()
	var err error
	select {
	case err = <-r.done:
	case <-time.After(stopTimeout):
		err = errors.New("the daemon did not stop in time")
	}
	return errors.Join(err, os.RemoveAll(r.dir))
}

// await asks for the status until it is as wanted.
func (r *running) await(ctx context.Context, what string, wanted func(control.Status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, phaseTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		s, err := r.client.Status(ctx)
		if err == nil && wanted(s) {
			return nil
		}
		last = err
		if err == nil {
			last = fmt.Errorf("phase %s, ready %v, blockers %v", s.Phase, s.Ready, s.Blockers)
			for _, b := range s.Blockers {
				if b.Code == "migration_stopped" || b.Code == "stream_stopped" {
					return fmt.Errorf("wait until the daemon is %s: %s", what, b.Detail)
				}
			}
		}
		select {
		case err := <-r.done:
			r.done <- err
			return fmt.Errorf("the daemon ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("wait until the daemon is %s: %w: %w", what, ctx.Err(), last)
		case <-tick.C:
		}
	}
}

func freeAddress() (string, error) {
	port, err := pgcluster.FreePort()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}
