package proxy

import (
	"context"
	"net"
	"time"

	"crossfade/internal/pg"
	"crossfade/proxy/wire"
)

// stranger is a connection whose client is not known yet.
type stranger struct {
	p        *Proxy
	base     context.Context // ends with the proxy
	conn     net.Conn
	place    *place
	certHash []byte // channel binding of the certificate shown, nil without TLS
	tls      bool
	ssl, gss bool // SSLRequest, GSSENCRequest was seen
	spoke    bool // the start-up packet has come

	commonName string // of the client's certificate, "" for none
}

// serve is the life of one accepted connection.
func (p *Proxy) serve(ctx context.Context, conn net.Conn) {
	defer p.recovered(nil)
	r, s := p.meet(ctx, conn)
	if r != nil {
		if p.isClosing() {
			r.end(errShutdown)
		}
		r.run()
	}
	if s != nil {
		if p.isClosing() {
			s.end(errShutdown)
		}
		s.run()
	}
}

// meet brings a connection from its first byte to a session, or a replication
// connection, that is ready, or closes it and returns neither.
func (p *Proxy) meet(ctx context.Context, conn net.Conn) (r *relay, s *stream) {
	base := ctx
	ctx, cancel := context.WithCancelCause(base)
	defer cancel(nil)
	x := &stranger{p: p, base: base, conn: conn, place: p.logins.admit(conn.RemoteAddr(), cancel)}
	defer x.place.known()
	_ = conn.SetDeadline(time.Now().Add(p.cfg.LoginTimeout))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(longAgo) })
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
	stop() // its deadline would cut our words short
	if cause := context.Cause(ctx); cause == errCrowded {
		x.dismiss(errCrowded)
	} else {
		x.refuse(err)
	}
	_ = x.conn.Close()
	return nil, nil
}

// prove finds out who the client is, within LoginTimeout of its first byte. It returns nil where the
// connection was for something else, and has done that.
func (x *stranger) prove(ctx context.Context) (*login, error) {
	ctx, cancel := context.WithTimeout(ctx, x.p.cfg.LoginTimeout)
	defer cancel()
	start, err := x.startup(ctx)
	if err != nil || start == nil {
		return nil, err
	}
	if x.p.isClosing() {
		return nil, errClosing
	}
	x.spoke = true
	x.place.spoke()
	l := &login{stranger: x, version: wire.Version30}
	if err := l.identify(ctx, start); err != nil {
		return nil, err
	}
	if !x.place.known() {
		return nil, errCrowded
	}
	return l, nil
}

// startup reads packets until the start-up packet. It returns nil where the
// connection was for something else, and has done that.
func (x *stranger) startup(ctx context.Context) (*wire.Startup, error) {
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
				return nil, fatal(pg.CodeProtocolViolation, "encryption was asked for twice")
			}
			x.gss = true
			if _, err := x.conn.Write([]byte{'N'}); err != nil {
				return nil, err
			}
		case wire.KindCancel:
			x.p.cancel(ctx, s.CancelPID, s.CancelKey)
			return nil, nil
		case wire.KindStartup:
			return &s, nil
		}
	}
}
