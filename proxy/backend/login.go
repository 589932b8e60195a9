package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"

	"crossfade/proxy/auth"
	"crossfade/proxy/auth/scram"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/wire"
)

// deriver is shared by all log-ins: its bound is the bound of the process.
var deriver = scram.NewDeriver(0)

// loginState is a log-in between the start-up packet and ReadyForQuery.
type loginState struct {
	conn   net.Conn
	cfg    *Config
	frames *wire.Reader
	count  int
	bytes  int

	pid    uint32
	key    []byte
	params map[string]string
}

func (l *loginState) run(ctx context.Context) error {
	if err := l.authenticate(ctx); err != nil {
		return err
	}
	for {
		f, err := l.next()
		if err != nil {
			return err
		}
		switch f.Type {
		case 'S':
			p, err := wire.DecodeParameterStatus(f.Body)
			if err != nil {
				return err
			}
			l.params[p.Name] = p.Value
		case 'K':
			pid, key, err := wire.DecodeBackendKeyData(f.Body)
			if err != nil {
				return err
			}
			l.pid, l.key = pid, append([]byte(nil), key...)
		case 'Z':
			status, err := wire.DecodeReadyForQuery(f.Body)
			if err != nil {
				return err
			}
			if status != 'I' {
				return fmt.Errorf("server begins in transaction status %q", status)
			}
			return nil
		default:
			return fmt.Errorf("unexpected message type %q in a log-in", f.Type)
		}
	}
}

// next reads a frame; notices are passed over, errors and negotiation are dealt with.
func (l *loginState) next() (wire.Frame, error) {
	for {
		f, err := l.frames.Next()
		if err != nil {
			return wire.Frame{}, fmt.Errorf("read from server: %w", err)
		}
		l.count++
		l.bytes += len(f.Body)
		if l.count > maxLoginFrames || l.bytes > maxLoginBytes {
			return wire.Frame{}, errors.New("server sends too much in a log-in")
		}
		switch f.Type {
		case 'E':
			refused, err := wire.DecodeError(f.Body)
			if err != nil {
				return wire.Frame{}, err
			}
			return wire.Frame{}, refused
		case 'N':
		case 'v':
			n, err := wire.DecodeNegotiate(f.Body)
			if err != nil {
				return wire.Frame{}, err
			}
			if n.Version != wire.Version30 {
				return wire.Frame{}, fmt.Errorf("server answers protocol 3.0 with %d.%d", n.Version>>16, n.Version&0xffff)
			}
		default:
			return f, nil
		}
	}
}

func (l *loginState) request() (wire.Auth, error) {
	f, err := l.next()
	if err != nil {
		return wire.Auth{}, err
	}
	if f.Type != 'R' {
		return wire.Auth{}, fmt.Errorf("unexpected message type %q in an authentication", f.Type)
	}
	return wire.DecodeAuth(f.Body)
}

func (l *loginState) send(b []byte) error {
	if _, err := l.conn.Write(b); err != nil {
		return fmt.Errorf("answer authentication request: %w", err)
	}
	return nil
}

// methods are libpq's words for what a server may ask for; anything else is refused in any case.
var methods = map[wire.AuthKind]string{
	wire.AuthSASL: "scram-sha-256", wire.AuthMD5: "md5", wire.AuthCleartext: "password", wire.AuthOK: "none",
}

// authenticate answers the server's request and ends with its AuthenticationOk.
func (l *loginState) authenticate(ctx context.Context) error {
	a, err := l.request()
	if err != nil {
		return err
	}
	if method := methods[a.Kind]; method != "" && l.cfg.AllowsAuth != nil && !l.cfg.AllowsAuth(method) {
		return fmt.Errorf("require_auth does not let the server ask for %s", method)
	}
	bound := false
	switch a.Kind {
	case wire.AuthSASL:
		if bound, err = l.sasl(ctx, a.Mechanisms); err != nil {
			return err
		}
	case wire.AuthMD5, wire.AuthCleartext:
		if l.cfg.TLS.Binding == tlsconf.BindingRequire {
			break // refused below
		}
		if err := l.password(a); err != nil {
			return err
		}
	case wire.AuthOK:
	default:
		return fmt.Errorf("server asks for authentication method %d, which is not supported", a.Kind)
	}
	if l.cfg.TLS.Binding == tlsconf.BindingRequire && !bound {
		return errors.New("channel binding is required, but the server did not authenticate with it")
	}
	if a.Kind == wire.AuthOK {
		return nil
	}
	if a, err = l.request(); err != nil {
		return err
	}
	if a.Kind != wire.AuthOK {
		return fmt.Errorf("server sent authentication request %d after authentication was complete", a.Kind)
	}
	return nil
}

func (l *loginState) password(a wire.Auth) error {
	answer := l.cfg.Password
	hash := l.cfg.Proof.MD5()
	if answer != "" {
		hash = auth.MD5Hash(l.cfg.User, answer)
	}
	if answer == "" && (a.Kind != wire.AuthMD5 || hash == "") {
		return l.nothing()
	}
	if a.Kind == wire.AuthMD5 {
		answer = auth.MD5Response(hash, a.Salt)
	} else if _, ok := l.conn.(*tls.Conn); !ok && !l.cfg.local() {
		return errors.New("server asks for the password in clear text without TLS; use sslmode=require or another method in its pg_hba.conf")
	}
	return l.send(wire.AppendPassword(nil, answer))
}

// ErrNoPassword says that the server asks for a password and there is none, nor a proof of the kind
// that it takes.
var ErrNoPassword = errors.New("server asks for a password, and none is known")

func (l *loginState) nothing() error { return fmt.Errorf("%w: user %q", ErrNoPassword, l.cfg.User) }

// sasl runs SCRAM until the server has proved itself; bound reports whether the channel was bound.
func (l *loginState) sasl(ctx context.Context, offered []string) (bound bool, err error) {
	proven := l.cfg.Proof.SCRAM()
	if l.cfg.Password == "" && proven == nil {
		return false, l.nothing()
	}
	cfg, mechanism, err := l.mechanism(offered)
	if err != nil {
		return false, err
	}
	if cfg.Derive = scram.Password(deriver, l.cfg.User, l.cfg.Password); l.cfg.Password == "" {
		cfg.Derive = proven.Derive
	}
	s := scram.NewClient(cfg)
	if err := l.send(wire.AppendSASLInitial(nil, mechanism, s.First())); err != nil {
		return false, err
	}
	a, err := l.request()
	if err != nil {
		return false, err
	}
	if a.Kind != wire.AuthSASLContinue {
		return false, fmt.Errorf("unexpected authentication request %d in a SCRAM exchange", a.Kind)
	}
	answer, err := s.Continue(ctx, a.Data)
	if err != nil {
		return false, err
	}
	if err := l.send(wire.AppendSASLResponse(nil, answer)); err != nil {
		return false, err
	}
	if a, err = l.request(); err != nil {
		return false, err
	}
	if a.Kind != wire.AuthSASLFinal {
		return false, fmt.Errorf("unexpected authentication request %d in a SCRAM exchange", a.Kind)
	}
	return cfg.Plus, s.Verify(a.Data)
}

// mechanism chooses -PLUS where server, certificate and configuration allow it.
func (l *loginState) mechanism(offered []string) (scram.ClientConfig, string, error) {
	var binding []byte
	if t, ok := l.conn.(*tls.Conn); ok && l.cfg.TLS.Binding != tlsconf.BindingDisable {
		if certs := t.ConnectionState().PeerCertificates; len(certs) > 0 {
			var err error
			if binding, err = tlsconf.Binding(certs[0]); err != nil && l.cfg.TLS.Binding == tlsconf.BindingRequire {
				return scram.ClientConfig{}, "", fmt.Errorf("channel binding is required: %w", err)
			}
		}
	}
	plus := slices.Contains(offered, scram.MechanismPlus)
	switch {
	case plus && binding != nil:
		return scram.ClientConfig{Plus: true, Binding: binding}, scram.MechanismPlus, nil
	case l.cfg.TLS.Binding == tlsconf.BindingRequire:
		return scram.ClientConfig{}, "", errors.New("channel binding is required, but the server does not offer SCRAM-SHA-256-PLUS over TLS")
	case slices.Contains(offered, scram.Mechanism):
		return scram.ClientConfig{CouldBind: binding != nil}, scram.Mechanism, nil
	}
	return scram.ClientConfig{}, "", fmt.Errorf("server offers none of the SASL mechanisms %s and %s", scram.MechanismPlus, scram.Mechanism)
}
