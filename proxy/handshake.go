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
	certHash []byte // channel binding of the certificate shown, nil without TLS
	tls      bool
	gss      bool // GSSENCRequest was seen
}

// serve is the life of one accepted connection.
func (p *Proxy) serve(ctx context.Context, conn net.Conn) {
	defer p.recovered(nil)
	r := p.meet(ctx, conn)
	if r != nil {
		if p.isClosing() {
			r.end(errShutdown)
		}
		r.run()
	}
}

// meet brings a connection from its first byte to a session that is ready, or
// closes it and returns nil.
func (p *Proxy) meet(ctx context.Context, conn net.Conn) *relay {
	x := &stranger{p: p, base: ctx, conn: conn}
	ready := false
	defer func() {
		if !ready {
			_ = x.conn.Close()
		}
	}()
	select {
	case p.logins <- struct{}{}:
	default:
		return nil // more strangers than can be listened to
	}
	known := false
	admitted := func() {
		if !known {
			known = true
			<-p.logins
		}
	}
	defer admitted()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_ = conn.SetDeadline(time.Now().Add(p.cfg.LoginTimeout))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(longAgo) })
	defer stop()

	start, err := x.startup(ctx)
	if err != nil {
		x.refuse(err)
		return nil
	}
	if start == nil {
		return nil
	}
	if p.isClosing() {
		x.refuse(errClosing)
		return nil
	}
	l := login{stranger: x, version: wire.Version30}
	if err := l.identify(ctx, start); err != nil {
		x.refuse(err)
		return nil
	}
	admitted()
	r, err := l.enter(ctx)
	if err != nil {
		x.refuse(err)
		return nil
	}
	ready = true
	return r
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
