package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"crossfade/proxy/auth"
	"crossfade/proxy/poll"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/wire"
)

// Conn is a server connection that is logged in and idle. The net.Conn inside belongs to the
// caller; Close closes it.
type Conn struct {
	net.Conn // a *tls.Conn where TLS was agreed
	PID      uint32
	Key      []byte            // cancel key, nil if the server gave none
	Params   map[string]string // ParameterStatus of the log-in

	leftover []byte
	cfg      Config
}

// Leftover returns what was read after ReadyForQuery: it comes before what the connection yields.
func (c *Conn) Leftover() []byte { return c.leftover }

// TLS reports whether the connection is encrypted.
func (c *Conn) TLS() bool { _, ok := c.Conn.(*tls.Conn); return ok }

// Dial connects and logs in until ReadyForQuery. Where the server refused, the error wraps its
// *wire.ServerError. ctx and ConnectTimeout bound the whole; the connection that is returned has no
// deadline.
func Dial(ctx context.Context, c Config) (*Conn, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("connect to server: %w", err)
	}
	timeout := c.ConnectTimeout
	if timeout <= 0 {
		timeout = DefaultConnectTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := attempt(ctx, c, c.TLS.Mode >= tlsconf.Prefer)
	if err != nil && ctx.Err() == nil && again(c.TLS.Mode, err) {
		var second error
		if conn, second = attempt(ctx, c, c.TLS.Mode == tlsconf.Allow); second != nil {
			return nil, fmt.Errorf("log in to %s: %w", c.Address, errors.Join(err, second))
		}
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("log in to %s: %w", c.Address, err)
	}
	return conn, nil
}

// again reports whether a refused try is to be made the other way: with TLS for Allow, without for
// Prefer.
func again(mode tlsconf.Mode, err error) bool {
	var refused *wire.ServerError
	rejected := errors.As(err, &refused) && refused.Code == "28000" // no pg_hba.conf entry for this kind of connection
	return mode == tlsconf.Allow && rejected || mode == tlsconf.Prefer && (rejected || errors.Is(err, errHandshake))
}

var errHandshake = errors.New("TLS handshake")

func attempt(ctx context.Context, c Config, encrypt bool) (*Conn, error) {
	raw, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	// The end of ctx cuts the connection's reads and writes short.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	conn, err := login(ctx, raw, c, encrypt && !c.local())
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = raw.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
		return nil, err
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

func open(ctx context.Context, c Config) (net.Conn, error) {
	network := "tcp"
	if c.local() {
		network = "unix"
	}
	d := c.Dialer
	if d == nil {
		d = &net.Dialer{KeepAlive: keepAlive} // TCP_NODELAY is Go's default
	}
	return d.DialContext(ctx, network, c.Address)
}

func login(ctx context.Context, raw net.Conn, c Config, encrypt bool) (*Conn, error) {
	conn := raw
	if encrypt {
		var err error
		if conn, err = encrypted(ctx, raw, c.TLS, c.host()); err != nil {
			return nil, err
		}
	}
	packet, err := wire.AppendStartup(nil, wire.Version30, c.startup())
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(packet); err != nil {
		return nil, fmt.Errorf("send start-up packet: %w", err)
	}
	l := loginState{conn: conn, cfg: &c, frames: wire.NewReader(conn, maxLoginBytes), params: map[string]string{}}
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	out := &Conn{Conn: conn, PID: l.pid, Key: l.key, Params: l.params, cfg: c}
	out.cfg.Password, out.cfg.Proof = "", auth.Proof{} // not needed any more
	if rest := l.frames.Buffered(); len(rest) > 0 {
		out.leftover = append([]byte(nil), rest...)
	}
	return out, nil
}

// encrypted asks for TLS and starts it. With Prefer it continues in plain text if the server
// declines.
func encrypted(ctx context.Context, raw net.Conn, t tlsconf.Client, host string) (net.Conn, error) {
	if !t.Direct {
		if _, err := raw.Write(wire.AppendSSLRequest(nil)); err != nil {
			return nil, fmt.Errorf("ask for TLS: %w", err)
		}
		var answer [1]byte
		if _, err := io.ReadFull(raw, answer[:]); err != nil {
			return nil, fmt.Errorf("ask for TLS: %w", err)
		}
		switch {
		case answer[0] == 'S':
		case answer[0] == 'N' && t.Mode == tlsconf.Prefer:
			return raw, nil
		case answer[0] == 'N':
			return nil, fmt.Errorf("ask for TLS: the server does not offer it, and sslmode is %s", t.Mode)
		default:
			return nil, fmt.Errorf("ask for TLS: unexpected answer %q", answer[0])
		}
	}
	conn, err := t.Handshake(ctx, poll.NewConn(raw, nil), host)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errHandshake, err)
	}
	return conn, nil
}
