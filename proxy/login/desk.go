package login

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/proxy/auth"
	"crossfade/proxy/ending"
	"crossfade/proxy/route"
	"crossfade/proxy/session"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/wire"
)

// Desk lets clients in: from an accepted connection to a session whose client has proved who it is.
type Desk struct {
	*session.Registry
	gate    *route.Gate
	cfg     Config
	serving *sync.WaitGroup // one for each accepted connection

	unauthenticated

	closing context.Context // ends when no more clients are admitted
	Close   context.CancelFunc
}

// Config is the configuration of a Desk.
type Config struct {
	TLS                *tlsconf.Server
	Auth               auth.Store
	LoginTimeout       time.Duration // bounds a client from accept to a proved identity
	RequireCertificate bool          // refuses clients without a certificate from TLS's authority for clients

	MaxLogins, MaxLoginsPerAddress int
}

// New makes a desk that serves no connection yet.
func New(cfg Config, sessions *session.Registry, gate *route.Gate, serving *sync.WaitGroup) *Desk {
	p := &Desk{Registry: sessions, gate: gate, cfg: cfg, serving: serving,
		unauthenticated: unauthenticated{total: cfg.MaxLogins, perAddress: cfg.MaxLoginsPerAddress, crowds: map[netip.Prefix]*crowd{}}}
	p.closing, p.Close = context.WithCancel(context.Background())
	return p
}

// pendingLogin is a connection whose client has not authenticated yet.
type pendingLogin struct {
	p        *Desk
	base     context.Context // ends with the proxy
	conn     net.Conn
	place    *place
	certHash []byte // channel binding of the certificate shown, nil without TLS
	tls      bool
	ssl, gss bool // SSLRequest, GSSENCRequest was seen
	spoke    bool // the start-up packet has come

	commonName string // of the client's certificate, "" for none
}

// Serve serves one accepted connection to its end.
func (p *Desk) Serve(ctx context.Context, conn net.Conn) {
	defer p.Recovered(nil)
	r, s := p.meet(ctx, conn)
	if r != nil {
		if p.isClosing() {
			r.End(ending.ErrShutdown)
		}
		p.serving.Add(1) // the session outlives this goroutine
		r.Begin(p.serving.Done)
	}
	if s != nil {
		if p.isClosing() {
			s.End(ending.ErrShutdown)
		}
		s.Run()
	}
}

// meet takes a connection from its first byte to a session, or a replication connection, that is
// ready; or closes it and returns neither.
func (p *Desk) meet(ctx context.Context, conn net.Conn) (r *session.Session, s *session.Stream) {
	base := ctx
	ctx, cancel := context.WithCancelCause(base)
	defer cancel(nil)
	x := &pendingLogin{p: p, base: base, conn: conn, place: p.admit(conn.RemoteAddr(), cancel)}
	defer x.place.known()
	_ = conn.SetDeadline(time.Now().Add(p.cfg.LoginTimeout))
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(session.LongAgo)
		close(stopped)
	})
	defer stop()

	l, err := x.prove(ctx)
	switch {
	case err != nil || l == nil:
	case l.startup.Replication():
		s, err = l.stream(ctx)
	default:
		r, err = l.enter(ctx)
	}
	if r != nil || s != nil {
		return r, s
	}
	prevented := stop() // its deadline would cut off our last message
	if cause := context.Cause(ctx); cause == errCrowded {
		if !prevented { // by a stop that came before the function of a ctx that had ended already
			<-stopped // so that its deadline does not come after that of the last message
		}
		x.dismiss(errCrowded)
	} else {
		x.refuse(err)
	}
	_ = x.conn.Close()
	return nil, nil
}

// prove finds out who the client is, within LoginTimeout of its first byte. It returns nil for a
// connection that had another purpose, which is then served.
func (x *pendingLogin) prove(ctx context.Context) (*login, error) {
	ctx, cancel := context.WithTimeout(ctx, x.p.cfg.LoginTimeout)
	defer cancel()
	start, err := x.startup(ctx)
	if err != nil || start == nil {
		return nil, err
	}
	if x.p.isClosing() {
		return nil, ending.ErrClosing
	}
	x.spoke = true
	x.place.spoke()
	l := &login{pendingLogin: x, version: wire.Version30}
	if err := l.identify(ctx, start); err != nil {
		return nil, err
	}
	if !x.place.known() {
		return nil, errCrowded
	}
	return l, nil
}

// startup reads packets until the start-up packet. It returns nil for a connection that had another
// purpose, which is then served.
func (x *pendingLogin) startup(ctx context.Context) (*wire.Startup, error) {
	for {
		s, err := wire.ReadStartup(x.conn)
		if err != nil {
			return nil, err
		}
		switch s.Kind {
		case wire.KindSSL:
			if err := x.encrypt(ctx, nil); err != nil {
				return nil, err
			}
		case wire.KindDirectTLS:
			if x.p.cfg.TLS == nil || x.tls {
				return nil, nil // the client would not understand an answer
			}
			if err := x.encrypt(ctx, s.Peeked); err != nil {
				return nil, err
			}
		case wire.KindGSSENC:
			if x.gss {
				return nil, ending.Fatal(pg.CodeProtocolViolation, "encryption was asked for twice")
			}
			x.gss = true
			if _, err := x.conn.Write([]byte{'N'}); err != nil {
				return nil, err
			}
		case wire.KindCancel:
			x.p.Cancel(ctx, s.CancelPID, s.CancelKey)
			return nil, nil
		case wire.KindStartup:
			return &s, nil
		}
	}
}
