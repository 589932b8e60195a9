package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

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

// HTTPAddr is the address of the read-only listener, nil without one.
func (s *Server) HTTPAddr() net.Addr {
	if s.tcp == nil {
		return nil
	}
	return s.tcp.Addr()
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
