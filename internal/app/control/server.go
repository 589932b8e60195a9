package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// Daemon is what the server serves. Its methods are called from many goroutines; Cutover and Finish
// one at a time. Errors that are an *Error reach the client unchanged, others with the code
// internal, so they must contain no secret.
type Daemon interface {
	// Status answers from memory: it is asked several times a second.
	Status(ctx context.Context) (Status, error)
	Sessions(ctx context.Context) ([]Session, error)
	// Cutover returns a report for every attempt, aborted ones too, and an error if none was made.
	// The end of ctx withdraws it, with ctx's cause as the reason: it is undone if it can be, and
	// Cutover returns when it has ended. show is called with each step as it happens, from any
	// goroutine, and does not block.
	Cutover(ctx context.Context, opt CutoverOptions, show func(Event)) (CutoverReport, error)
	Finish(ctx context.Context, opt FinishOptions) (FinishReport, error)
	// Verify compares both sides, or waits for the comparison that is under way, and returns its
	// report. It continues when ctx ends, which ends the wait; StopVerify ends it.
	Verify(ctx context.Context) (VerifyReport, error)
	StopVerify(ctx context.Context) error
	// LastVerify returns the report of the last comparison that was completed, nil for none.
	LastVerify() *VerifyReport
	// Limits sets what c names, nothing if that is nothing, and returns what holds.
	Limits(ctx context.Context, c LimitsChange) (Limits, error)
}

const (
	// headerTimeout bounds how long a connection may take to send a request.
	headerTimeout = 10 * time.Second
	// shutdownTimeout bounds the answers that are under way when the daemon
	// stops; operations have ended by then.
	shutdownTimeout = 5 * time.Second
)

// Config says where the server listens and what it serves.
type Config struct {
	Socket  string       // path of the Unix socket; required
	HTTP    string       // host:port of the read-only listener; empty for none
	Daemon  Daemon       // required
	Metrics http.Handler // served at /metrics; may be nil
	Log     zerolog.Logger
}

// Validate says what is missing.
func (c Config) Validate() error {
	switch {
	case c.Socket == "":
		return errors.New("control socket has no path: name one with --control")
	case c.Daemon == nil:
		return errors.New("control server has no daemon")
	}
	return nil
}

// Server serves the control API. Make one with Listen, then call Run.
type Server struct {
	cfg  Config
	sock *socket
	tcp  net.Listener // nil without --http
	ops  operations
	done <-chan struct{} // of Run's context

	last struct {
		sync.Mutex
		cutover *CutoverReport
	}
}

// Listen takes the socket and the port, so that what is wrong with them is said
// before anything else is done.
func Listen(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	sock, err := listenSocket(cfg.Socket)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, sock: sock}
	if cfg.HTTP != "" {
		if s.tcp, err = net.Listen("tcp", cfg.HTTP); err != nil {
			return nil, errors.Join(fmt.Errorf("listen for HTTP at %s: %w; name a free port with --http", cfg.HTTP, err), sock.Close())
		}
	}
	return s, nil
}

// Close gives up the socket and the port of a server that is not going to Run.
func (s *Server) Close() error {
	err := s.sock.Close()
	if s.tcp != nil {
		err = errors.Join(err, s.tcp.Close())
	}
	return err
}

// Run serves until ctx ends. It then cancels the operation that runs, waits for
// its end without a bound of its own, and answers its client. It is called once.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	s.ops.ctx, s.done = ctx, ctx.Done()
	servers := []*http.Server{s.serve(s.handler())}
	listeners := []net.Listener{s.sock}
	if s.tcp != nil {
		servers = append(servers, s.serve(s.readOnlyHandler()))
		listeners = append(listeners, s.tcp)
	}
	for i, srv := range servers {
		g.Go(func() error {
			if err := srv.Serve(listeners[i]); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve control at %s: %w", listeners[i].Addr(), err)
			}
			return nil
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		s.ops.stop()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		for _, srv := range servers {
			if err := srv.Shutdown(stop); err != nil {
				_ = srv.Close()
			}
		}
		return nil
	})
	return g.Wait()
}

func (s *Server) serve(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout}
}

const (
	// maxSocketPath is the longest path that fits sockaddr_un on Linux (108
	// bytes with the final zero) and on the BSDs (104).
	maxSocketPath = 103
	// probeTimeout bounds the question whether someone answers at a socket: the kernel answers for
	// a listening process, so any wait means that one is there.
	probeTimeout = time.Second
)

// socket is a listening Unix socket that removes its file when it is closed, but
// not a file that has taken its place.
type socket struct {
	*net.UnixListener
	path string
	file fs.FileInfo
}

// listenSocket listens at path. The socket is made in a private directory and moved to its place
// when its mode is right, so that no other user can reach it in between; the move replaces a stale
// socket.
func listenSocket(path string) (*socket, error) {
	if err := free(path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".cf")
	if err != nil {
		return nil, fmt.Errorf("control socket %s: make its directory: %w; name another place with --control", path, err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	tmp := filepath.Join(dir, "s")
	if max(len(tmp), len(path)) > maxSocketPath {
		return nil, fmt.Errorf("control socket %s: the path is too long for a socket; name a shorter one with --control", path)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	s := &socket{UnixListener: ln, path: path}
	err = os.Chmod(tmp, 0o600)
	if err == nil {
		s.file, err = os.Lstat(tmp)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("control socket %s: %w", path, err), ln.Close())
	}
	return s, nil
}

// free returns nil when path may be taken: there is nothing, or a socket on which no process
// answers.
func free(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("control socket: %w; name another place with --control", err)
	case st.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("control socket %s: a file that is no socket is there; remove it or name another place with --control", path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("control socket %s: another daemon answers there; stop it or name another place with --control", path)
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("control socket %s: cannot tell whether a daemon is there: %w; name another place with --control", path, err)
}

// Close stops listening and removes the file, if it is still ours.
func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
		_ = os.Remove(s.path)
	}
	return s.UnixListener.Close()
}
