package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

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
	mover    *move.Mover
	listener net.Listener
	serving  sync.WaitGroup // one for each accepted connection
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
	p.mover = move.New(move.Config{Epoch: cfg.Epoch, Closed: cfg.Closed, MaxCaptures: cfg.MaxCaptures, MaxDials: cfg.MaxDials, Explain: cfg.Explain}, p.sessions, &p.gate)
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
		p.sessions.Engines.Start(p.log)
	}
	p.serving.Go(func() { p.mover.Watch(ctx) })
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
	p.sessions.Engines.Stop()
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
