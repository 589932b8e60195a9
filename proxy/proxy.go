package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"crossfade/internal/obs"
	"crossfade/proxy/route"
	"crossfade/proxy/session"
	"crossfade/proxy/typemap"
)

// Proxy serves clients and moves their sessions. All methods are safe for
// concurrent use; the verbs of a move (Stage to Switch) run one at a time.
type Proxy struct {
	cfg    Config
	log    zerolog.Logger
	gate   route.Gate
	router *route.Router
	held   holds
	struck struck
	dials  chan struct{} // one for each server connection that is being made
	logins strangers

	engines  engines
	listener net.Listener
	panics   atomic.Int64
	revived  atomic.Int64 // sessions that got a new server in the place of one that was gone
	expelled atomic.Int64 // sessions that could not be moved and were ended
	orphans  atomic.Int64 // statements that were cancelled because their client was gone
	prepared atomic.Int64 // transactions that clients have prepared and not ended, as far as was seen
	draining atomic.Bool  // sessions are on their way to the gate that Pause has closed

	closing context.Context // ends when nobody is let in any more
	close   context.CancelFunc

	verb chan struct{} // held by the verb that runs; guards attempt
	// attempt is the move under way.
	attempt struct {
		epoch      int64
		generation uint64 // of the gate that it closed
		paused     bool
		policy     Unmovable                   // for sessions that cannot be moved; "" is UnmovableAbort
		wait       time.Duration               // of UnmovableWait, in Stage
		catalogs   map[string]*session.Catalog // by database, as clients name it
		asked      time.Time                   // when the newest of them were read
		types      map[string]bool             // databases whose types were compared
	}

	mu struct {
		sync.Mutex
		closed   bool // the gate holds sessions; new ones too
		next     uint64
		sessions map[uint64]*relay
		byPID    map[uint32]*relay       // by the pid that the client knows
		types    map[string]*typemap.Map // of the target, by the client's name of the database
		streams  map[uint64]*stream
	}
	// pids leads from the pid of a server to that of its client, where they differ.
	// Nothing else is locked under it.
	pids struct {
		sync.Mutex
		m map[uint32]uint32
		// now leads from the pid that a client knows of its session to that of its
		// server, where they differ; to nobody's once the session has ended.
		now   map[uint32]uint32
		ended []uint32 // those of nobody, oldest first
	}
	serving sync.WaitGroup // one for each accepted connection
}

// New returns a proxy that listens already, so that Addr is known, and serves
// once Run is called.
func New(cfg Config) (*Proxy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Proxy{
		cfg:      cfg,
		log:      obs.Component(cfg.Log, "proxy"),
		router:   route.NewRouter(route.Route{Epoch: cfg.Epoch, Endpoint: cfg.Active}),
		dials:    make(chan struct{}, cfg.MaxDials),
		logins:   strangers{total: cfg.MaxLogins, perAddress: cfg.MaxLoginsPerAddress, crowds: map[netip.Prefix]*crowd{}},
		verb:     make(chan struct{}, 1),
		listener: cfg.Listener,
	}
	p.mu.streams = map[uint64]*stream{}
	p.closing, p.close = context.WithCancel(context.Background())
	p.mu.sessions, p.mu.byPID = map[uint64]*relay{}, map[uint32]*relay{}
	p.pids.m, p.pids.now = map[uint32]uint32{}, map[uint32]uint32{}
	p.mu.types = map[string]*typemap.Map{}
	p.attempt.epoch = cfg.Epoch
	if cfg.Closed {
		p.attempt.generation, p.attempt.paused = p.gate.Close(), true
		p.mu.closed = true
	}
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

// Run serves until ctx ends. Then logins are refused with 57P03, and every session is
// told 57P01 at its next boundary; open transactions have ShutdownTimeout to end. Run
// returns nil when all sessions have ended, within a few seconds of that.
func (p *Proxy) Run(ctx context.Context) error {
	serving, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(errShutdown)
	p.engines.start(p)
	p.serving.Go(func() { p.watch(ctx) })
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
	stop(errShutdown)
	p.serving.Wait()
	p.engines.stop()
	return err
}

// maxAcceptPause bounds the pause behind an accept that failed, such as for want
// of file descriptors: closing sessions make room again.
const maxAcceptPause = time.Second

func (p *Proxy) accept(ctx context.Context) error {
	pause := time.Millisecond
	for {
		conn, err := p.listener.Accept()
		if err == nil {
			pause = time.Millisecond
			p.logins.await(ctx, conn.RemoteAddr())
			p.serving.Add(1)
			go func() {
				defer p.serving.Done()
				p.serve(ctx, conn)
			}()
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept clients: %w", err)
		}
		p.log.Warn().Err(err).Msg("client not accepted")
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			p.logins.shed()
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		pause = min(2*pause, maxAcceptPause)
	}
}
