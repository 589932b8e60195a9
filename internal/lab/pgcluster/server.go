package pgcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/pg"
)

const (
	// startTimeout bounds a server's start, crash recovery included.
	startTimeout = 60 * time.Second
	// stopTimeout bounds a stop; after it the server is killed.
	stopTimeout = 30 * time.Second
	// readyPoll is how often a starting server is tried: PostgreSQL gives a
	// parent no event for "ready".
	readyPoll = 20 * time.Millisecond
	// portAttempts bounds the search for a port, since another process may take
	// the one that was free a moment ago.
	portAttempts = 5
)

// Mode says how a server is stopped (pg_ctl's shutdown modes).
type Mode syscall.Signal

// The modes: Fast ends sessions with 57P01 and writes a checkpoint, Immediate
// ends like a crash.
const (
	Fast      = Mode(syscall.SIGINT)
	Immediate = Mode(syscall.SIGQUIT)
)

// server is one run of the postmaster.
type server struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has been reaped
	err    error         // its end, valid after exited
}

// StartServer starts the cluster's server and waits until it takes logins. It
// does nothing when it runs.
func (c *Cluster) StartServer(ctx context.Context) error { return c.start(ctx, false) }

// StartUnready is StartServer for a server that accepts no logins yet, such as a standby without hot_standby: it
// returns when the server says so to a login (57P03), or takes it.
func (c *Cluster) StartUnready(ctx context.Context) error { return c.start(ctx, true) }

func (c *Cluster) start(ctx context.Context, unready bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.New("start server: the cluster is closed")
	}
	if c.server != nil {
		select {
		case <-c.server.exited:
		default:
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var err error
	for range portAttempts {
		port := c.port
		if port == 0 {
			if port, err = FreePort(); err != nil {
				return err
			}
		}
		if err = c.launch(ctx, port, unready); err == nil {
			c.port = port
			return nil
		}
		if c.port != 0 || ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("start PostgreSQL: %w\n%s", err, c.log.String())
}

func (c *Cluster) launch(ctx context.Context, port int, unready bool) error {
	cmd := exec.Command(c.program, "-D", c.data(), "-p", strconv.Itoa(port))
	cmd.SysProcAttr = c.own.attributes()
	endWithParent(cmd.SysProcAttr)
	cmd.Dir = c.dir
	var out io.Writer = &c.log
	if c.cfg.Log != nil {
		out = io.MultiWriter(&c.log, c.cfg.Log)
	}
	cmd.Stdout, cmd.Stderr = out, out
	s := &server{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The parent-death signal is bound to the thread that forks, so that
		// thread must live as long as the server.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			s.err = err
		} else {
			s.err = cmd.Wait()
		}
		close(s.exited)
	}()
	if err := <-started; err != nil {
		return err
	}
	if err := c.waitReady(ctx, s, port, unready); err != nil {
		_ = cmd.Process.Signal(syscall.SIGQUIT)
		<-s.exited
		return err
	}
	c.server = s
	return nil
}

func (c *Cluster) waitReady(ctx context.Context, s *server, port int, unready bool) error {
	cfg, err := pgconn.ParseConfig("sslmode=disable connect_timeout=5")
	if err != nil {
		return err
	}
	cfg.Host, cfg.Port = c.Host(), uint16(port)
	cfg.User, cfg.Password, cfg.Database = c.cfg.Superuser, c.password, "postgres"
	cfg.Fallbacks = nil
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		conn, err := pgconn.ConnectConfig(ctx, cfg)
		if err == nil {
			return conn.Close(ctx)
		}
		if unready && pg.IsCode(err, pg.CodeCannotConnectNow) {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("the server ended: %w", errors.Join(s.err, err))
		case <-ctx.Done():
			return fmt.Errorf("the server does not take logins: %w", err)
		case <-tick.C:
		}
	}
}

// Crashed reports whether the server has ended without Stop: StartServer starts it
// again.
func (c *Cluster) Crashed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		return false
	}
	select {
	case <-c.server.exited:
		return true
	default:
		return false
	}
}

// Stop ends the server and waits for its end; when ctx ends first, the server
// is killed. It does nothing when no server runs.
func (c *Cluster) Stop(ctx context.Context, mode Mode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.server
	if s == nil {
		return nil
	}
	c.server = nil
	select {
	case <-s.exited:
		return nil
	default:
	}
	if err := s.cmd.Process.Signal(syscall.Signal(mode)); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	select {
	case <-s.exited:
		return nil
	case <-ctx.Done():
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.exited
		return fmt.Errorf("stop PostgreSQL: %w, so it was killed", ctx.Err())
	}
}

// Restart stops the server and starts it again on the same port.
func (c *Cluster) Restart(ctx context.Context, mode Mode) error {
	if err := c.Stop(ctx, mode); err != nil {
		return err
	}
	return c.StartServer(ctx)
}
