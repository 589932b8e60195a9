package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/retry"
	"crossfade/proxy/ending"
	"crossfade/proxy/login"
	"crossfade/proxy/move"
	"crossfade/proxy/route"
	"crossfade/proxy/session"
	"crossfade/proxy/side"
)

// Proxy serves clients and moves their sessions. All methods are safe for
// concurrent use; the verbs of a move (Stage to Switch) run one at a time.
type Proxy struct {
	cfg      Config
	log      zerolog.Logger
	gate     route.Gate
	sides    *side.Sides
	sessions *session.Registry
	logins   *login.Desk
	listener net.Listener
	serving  sync.WaitGroup // one for each accepted connection

	*move.Mover
}

// New returns a proxy that listens already, so that Addr is known, and serves once Run is called.
func New(cfg Config) (*Proxy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Proxy{cfg: cfg, log: obs.Component(cfg.Log, "proxy"), listener: cfg.Listener}
	router := route.NewRouter(route.Route{Epoch: cfg.Epoch, Endpoint: cfg.Active})
	p.sides = (&side.Sides{Source: cfg.Source, Target: cfg.Target, User: cfg.User, Database: cfg.Database, Router: router, Types: cfg.Types}).Limit(cfg.MaxDials)
	p.sessions = session.NewRegistry(p.log, p.sides, session.Limits{HoldLimit: cfg.HoldLimit, ReviveTimeout: cfg.ReviveTimeout, Tracked: cfg.TrackSettings})
	p.Mover = move.New(move.Config{Epoch: cfg.Epoch, Closed: cfg.Closed, MaxCaptures: cfg.MaxCaptures, MaxDials: cfg.MaxDials, Explain: cfg.Explain}, p.sessions, &p.gate)
	p.logins = login.New(login.Config{TLS: cfg.TLS, Auth: cfg.Auth, LoginTimeout: cfg.LoginTimeout, RequireCertificate: cfg.RequireCertificate,
		MaxLogins: cfg.MaxLogins, MaxLoginsPerAddress: cfg.MaxLoginsPerAddress}, p.sessions, &p.gate, &p.serving)
	if err := p.register(cfg.Metrics); err != nil {
		return nil, err
	}
	if p.listener == nil {
		l, err := net.Listen("tcp", cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("listen for clients: %w; another program may use the port, choose another with --listen", err)
		}
		p.listener = l
	}
	return p, nil
}

// Addr returns the address that clients connect to.
func (p *Proxy) Addr() net.Addr { return p.listener.Addr() }

// Run serves until ctx ends. Then logins are refused with 57P03, and every session gets 57P01 at
// its next boundary; open transactions have ShutdownTimeout to end. Run returns nil when all
// sessions have ended, within a few seconds of that.
func (p *Proxy) Run(ctx context.Context) error {
	serving, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(ending.ErrShutdown)
	if !p.cfg.Pumps {
		p.sessions.Engine.Start(p.log)
	}
	p.serving.Go(func() { p.Watch(ctx) })
	accepted := make(chan error, 1)
	go func() { accepted <- p.accept(serving) }()
	var err error
	select {
	case err = <-accepted:
	case <-ctx.Done():
		p.retire(serving)
		_ = p.listener.Close()
		<-accepted // it ends because the listener is closed
	}
	_ = p.listener.Close()
	stop(ending.ErrShutdown)
	p.serving.Wait()
	p.sessions.Engine.Stop()
	return err
}

// maxAcceptPause bounds the pause after an accept that failed, such as for want of file
// descriptors: closing sessions make room again.
const maxAcceptPause = time.Second

func (p *Proxy) accept(ctx context.Context) error {
	pause := time.Millisecond
	for {
		conn, err := p.listener.Accept()
		if err == nil {
			pause = time.Millisecond
			p.logins.Await(ctx, conn.RemoteAddr())
			p.serving.Add(1)
			go func() {
				defer p.serving.Done()
				p.logins.Serve(ctx, conn)
			}()
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept clients: %w", err)
		}
		p.log.Warn().Err(err).Msg("client not accepted")
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			p.logins.Shed()
		}
		_ = retry.Sleep(ctx, pause)
		pause = min(2*pause, maxAcceptPause)
	}
}

// DefaultShutdownTimeout bounds how long open transactions may take to end when the
// proxy does: well below the 30 s after which Kubernetes kills, and longer than most
// transactions of an application.
const DefaultShutdownTimeout = 20 * time.Second

// retire ends the sessions, each at its next boundary, and returns when it has told all of them, or
// when ctx ends. New logins are refused from here on; one that has its server already ends as soon
// as it is a session.
func (p *Proxy) retire(ctx context.Context) {
	p.logins.Close()
	ctx, cancel := context.WithTimeout(ctx, p.cfg.ShutdownTimeout)
	defer cancel()
	list := p.sessions.List()
	p.log.Info().Int("sessions", len(list)).Dur("bound", p.cfg.ShutdownTimeout).Msg("shutting down: no new logins, sessions end at their boundaries")
	for _, s := range p.sessions.Streams() {
		s.End(ending.ErrShutdown) // it has no boundary
	}
	var all sync.WaitGroup
	for _, r := range list {
		all.Go(func() {
			defer p.sessions.Recovered(r)
			r.Hold(true)
			if r.Standstill(ctx) == nil {
				r.End(ending.ErrShutdown)
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		p.log.Warn().Dur("bound", p.cfg.ShutdownTimeout).Msg("shutting down: open transactions are ended")
	}
}

// register makes the metrics.
func (p *Proxy) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	gauge := func(name, help string, f func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: obs.Namespace, Subsystem: "proxy", Name: name, Help: help},
			func() float64 { return f(p.Status()) })
	}
	counter := func(name, help string, f func(Status) float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: obs.Namespace, Subsystem: "proxy", Name: name, Help: help},
			func() float64 { return f(p.Status()) })
	}
	for _, c := range []prometheus.Collector{
		gauge("sessions", "Sessions of clients.", func(s Status) float64 { return float64(s.Sessions) }),
		gauge("sessions_in_transaction", "Sessions within a transaction.", func(s Status) float64 { return float64(s.InTransaction) }),
		gauge("sessions_parked", "Sessions that the closed gate holds.", func(s Status) float64 { return float64(s.Parked) }),
		gauge("replication_connections", "Replication connections; they cannot be moved.", func(s Status) float64 { return float64(s.Streams) }),
		gauge("logins_waiting", "Logins that wait at the closed gate.", func(s Status) float64 { return float64(s.Waiting) }),
		gauge("strangers", "Connections that have not authenticated.", func(s Status) float64 { return float64(s.Unauthenticated) }),
		counter("strangers_refused_total", "Connections that had not authenticated and gave way to others.", func(s Status) float64 { return float64(s.Crowded) }),
		counter("client_errors_total", "Clients that were ended while a move was under way.", func(s Status) float64 { return float64(s.ClientErrors) }),
		counter("disconnected_total", "Sessions that could not be moved and were ended.", func(s Status) float64 { return float64(s.Disconnected) }),
		counter("revived_total", "Sessions whose idle server went away and that continue on another.", func(s Status) float64 { return float64(s.Revived) }),
		counter("orphans_cancelled_total", "Statements that were cancelled because their client was gone.", func(s Status) float64 { return float64(s.Abandoned) }),
		counter("panics_total", "Sessions that a bug has ended.", func(s Status) float64 { return float64(s.Panics) }),
	} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}
