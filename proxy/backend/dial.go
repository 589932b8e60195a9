package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/proxy/auth"
	"crossfade/proxy/auth/scram"
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
	return conn, pg.Wrap(err, "log in to %s", c.Address)
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

// Cancel asks the server to cancel the statement that runs on this connection, over a connection of
// its own to the same address, with TLS if this connection has TLS. It returns when the server has
// taken the request, at most after ten seconds; whether a statement was cancelled only the
// statement's own reply tells. Safe to call while the connection is in use.
func (c *Conn) Cancel(ctx context.Context) error {
	if len(c.Key) == 0 {
		return errors.New("cancel statement: the server gave no cancel key")
	}
	ctx, stop := context.WithTimeout(ctx, cancelTimeout)
	defer stop()
	return pg.Wrap(c.cancel(ctx), "cancel statement")
}

func (c *Conn) cancel(ctx context.Context) error {
	to := c.cfg
	if !to.local() {
		to.Address = c.RemoteAddr().String() // not the name: it may lead to another server by now
	}
	raw, err := open(ctx, to)
	if err != nil {
		return err
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn := raw
	if c.TLS() {
		t := c.cfg.TLS
		t.Mode = max(t.Mode, tlsconf.Require) // what this connection has, its cancel has too
		if conn, err = encrypted(ctx, raw, t, c.cfg.host()); err != nil {
			return err
		}
	}
	if _, err := conn.Write(wire.AppendCancel(nil, c.PID, c.Key)); err != nil {
		return err
	}
	// The server closes when it has dealt with the request; it says nothing.
	if _, err := io.CopyN(io.Discard, conn, 1); err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return nil
}

const (
	// DefaultConnectTimeout bounds a log-in from the dial to ReadyForQuery. A suspended Neon
	// compute takes some seconds to wake.
	DefaultConnectTimeout = 15 * time.Second
	// cancelTimeout bounds a cancel request: longer than that, and the statement it was for is
	// gone.
	cancelTimeout = 10 * time.Second
	// keepAlive finds a dead server in the time that libpq's default of the operating systems does
	// not.
	keepAlive = 30 * time.Second

	// maxLoginFrames and maxLoginBytes bound what a server may say in a log-in. PostgreSQL says
	// about 20 messages and 1 KiB.
	maxLoginFrames = 1024
	maxLoginBytes  = 1 << 20
)

// Config says where and as whom to log in. It may be copied; nothing in it is changed.
type Config struct {
	Address        string // host:port, or the path of a Unix socket
	TLS            tlsconf.Client
	User           string
	Password       string     // empty for none
	Proof          auth.Proof // in place of a password: logs in where the server keeps the secret that the client proved itself by
	Database       string     // empty for the user's name
	Params         []wire.Param
	ConnectTimeout time.Duration // from dial to ReadyForQuery; 0 means DefaultConnectTimeout
	Dialer         *net.Dialer   // opens the socket; nil for one with keepalives
	// AllowsAuth reports whether the server may ask for a method of authentication, in libpq's
	// words; nil for any.
	AllowsAuth func(method string) bool
}

// Validate says what is missing.
func (c *Config) Validate() error {
	if c.Address == "" {
		return errors.New("server address is empty")
	}
	if !c.local() {
		if _, _, err := net.SplitHostPort(c.Address); err != nil {
			return errors.New("server address is neither host:port nor the path of a Unix socket")
		}
	}
	if c.User == "" {
		return errors.New("user is empty")
	}
	if c.TLS.Mode != tlsconf.Disable && c.TLS.Config == nil {
		return errors.New("sslmode " + c.TLS.Mode.String() + " without a TLS configuration")
	}
	return nil
}

func (c *Config) local() bool {
	return len(c.Address) > 0 && (c.Address[0] == '/' || c.Address[0] == '@')
}

func (c *Config) host() string {
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return ""
	}
	return host
}

// startup are the parameters of the start-up packet. user and database are ours; protocol
// extensions are not passed on, since we ask for none.
func (c *Config) startup() []wire.Param {
	out := []wire.Param{{Name: "user", Value: c.User}}
	if c.Database != "" {
		out = append(out, wire.Param{Name: "database", Value: c.Database})
	}
	for _, p := range c.Params {
		if p.Name == "user" || p.Name == "database" || strings.HasPrefix(p.Name, "_pq_.") {
			continue
		}
		out = append(out, p)
	}
	return out
}

// Class says what to do about a log-in that failed.
type Class int

const (
	Stop    Class = iota // another attempt would fail in the same way: something has to be fixed
	Retry                // soon: the server starts, moves or was cut off
	BackOff              // later: the server is asked too often
	Wait                 // when someone has made room or the operator has acted
)

// advised are the classes of what Neon's proxy says, which puts all that goes wrong into XX000.
var advised = map[pg.NeonAdvice]Class{pg.NeonStop: Stop, pg.NeonRetry: Retry, pg.NeonBackOff: BackOff, pg.NeonWait: Wait}

// codes are the SQLSTATEs of PostgreSQL itself that pass by themselves, or with time.
var codes = map[string]Class{
	"08000": Retry, "08001": Retry, "08003": Retry, "08004": Retry, "08006": Retry,
	"57P01": Retry, "57P02": Retry, "57P03": Retry, "53300": Wait,
}

// Classify says what to do about an error of Dial. It decides by the SQLSTATE, and by the message
// if the server sent XX000, 08P01 or no SQLSTATE. Unknown errors are not retried: retrying for ever
// hides a fault.
func Classify(err error) Class {
	if said, ok := errors.AsType[*wire.ServerError](err); ok {
		if said.Code == pg.CodeInternal || said.Code == pg.CodeProtocolViolation || said.Code == "" {
			advice, _ := pg.NeonSays(said.Message)
			return advised[advice]
		}
		return codes[said.Code]
	}
	var dns *net.DNSError
	switch {
	case errors.As(err, new(*tls.CertificateVerificationError)), errors.Is(err, ErrNoPassword), errors.Is(err, scram.ErrOtherVerifier), errors.Is(err, context.Canceled):
		return Stop
	case errors.As(err, &dns) && dns.IsNotFound:
		return Stop
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.DeadlineExceeded), errors.As(err, new(net.Error)):
		return Retry
	}
	return Stop
}

// PasswordRefused reports whether the server says that the password is wrong, in PostgreSQL's way
// or in that of Neon's proxy.
func PasswordRefused(said *wire.ServerError) bool {
	return said.Code == "28P01" || said.Code == pg.CodeInternal && strings.Contains(said.Message, "password authentication failed for user")
}
