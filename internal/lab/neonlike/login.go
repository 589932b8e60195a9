package neonlike

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"
)

const (
	// alpn is the name of PostgreSQL's protocol in a TLS handshake.
	alpn = "postgresql"
	// loginTimeout bounds a login up to the compute: a client that sends nothing
	// has gone. A compute that wakes has a bound of its own.
	loginTimeout = 30 * time.Second
)

// login is one client before its session.
type login struct {
	front  *Front
	conn   net.Conn
	name   string // of the server, from the TLS handshake
	pooled bool
	asked  *startup
}

// serve takes one connection from its first byte to its end.
func (f *Front) serve(ctx context.Context, conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(loginTimeout))
	l := &login{front: f, conn: conn}
	cancel, err := l.open(ctx)
	if cancel != nil {
		f.keys.cancel(ctx, cancel)
		return
	}
	var s *session
	if err == nil {
		s, err = l.begin(ctx)
	}
	var said *pgError
	if errors.As(err, &said) {
		_, _ = l.conn.Write(said.atLogin())
		l.hangUp()
	}
	if err != nil {
		return
	}
	_ = conn.SetDeadline(time.Time{})
	s.run(ctx)
}

// hangUp ends the connection so that the client gets the last words: a socket that
// is closed while bytes of the client are unread may lose them.
func (l *login) hangUp() {
	if t, ok := l.conn.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
}

// open reads first packets until the start-up packet, or returns the body of a
// cancel request.
func (l *login) open(ctx context.Context) (cancel []byte, err error) {
	for {
		code, body, first, direct, err := readPacket(l.conn)
		secure := l.name != "" || isTLS(l.conn)
		switch {
		case err != nil:
			return nil, err
		case (direct || code == codeSSL) && secure:
			return nil, errors.New("TLS within TLS")
		case direct:
			l.conn = &prefixed{Conn: l.conn, first: []byte{first}}
			if err := l.encrypt(ctx, true); err != nil {
				return nil, err
			}
		case code == codeSSL:
			if _, err := l.conn.Write([]byte{'S'}); err != nil {
				return nil, err
			}
			if err := l.encrypt(ctx, false); err != nil {
				return nil, err
			}
		case code == codeGSSENC:
			if _, err := l.conn.Write([]byte{'N'}); err != nil {
				return nil, err
			}
		case code == codeCancel:
			return body, nil
		case !secure:
			return nil, refusal("connection is insecure (try using `sslmode=require`)")
		case code>>16 != 3:
			return nil, refusal("unsupported protocol version")
		default:
			l.asked, err = parseStartup(code, body)
			return nil, err
		}
	}
}

func isTLS(conn net.Conn) bool { _, ok := conn.(*tls.Conn); return ok }

func (l *login) encrypt(ctx context.Context, direct bool) error {
	t := tls.Server(l.conn, l.front.id.config())
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	state := t.ConnectionState()
	if direct && state.NegotiatedProtocol != alpn {
		return errors.New("direct TLS without ALPN")
	}
	l.conn, l.name = t, state.ServerName
	return nil
}

// begin finds the endpoint, has the client prove who it is, and logs in to the compute.
func (l *login) begin(ctx context.Context) (*session, error) {
	if strange := l.asked.unsupported(); l.asked.version != version30 || len(strange) > 0 {
		list := bytes.NewBuffer(word(uint32(len(strange))))
		for _, name := range strange {
			list.WriteString(name + "\x00")
		}
		if _, err := l.conn.Write(frame('v', word(version30), list.Bytes())); err != nil {
			return nil, err
		}
	}
	id, err := l.endpointID()
	if err != nil {
		return nil, err
	}
	e, err := l.authenticate(ctx, id)
	if err != nil {
		return nil, err
	}
	if _, err := l.conn.Write(frame('R', word(authOK))); err != nil {
		return nil, err
	}
	return l.enter(ctx, e)
}

// endpointID finds the endpoint by the server's name and the options; "" for none.
func (l *login) endpointID() (string, error) {
	option := l.asked.endpointOf()
	if l.name == "" {
		return option, nil
	}
	id, pooled, err := l.front.split(l.name)
	if err != nil {
		return "", err
	}
	if option != "" && option != id {
		return "", refusal("Inconsistent project name inferred from SNI ('%s') and project option ('%s').", id, option)
	}
	l.pooled = pooled
	if o := l.asked.options(); pooled && o != "" {
		name, _, _ := strings.Cut(strings.TrimLeft(strings.TrimPrefix(o, "-c"), " -"), "=")
		return "", refusal("unsupported startup parameter in options: %s. Please use unpooled connection or remove this parameter from the startup package.", name)
	}
	return id, nil
}

func (l *login) authenticate(ctx context.Context, id string) (*Endpoint, error) {
	user := l.asked.get("user")
	password := ""
	hack := id == ""
	if hack {
		var err error
		if id, password, err = l.askPassword(); err != nil {
			return nil, err
		}
	}
	e := l.front.endpoint(id)
	if e == nil {
		return nil, refusal("Control plane request failed: endpoint cannot be found")
	}
	v, err := e.verifier(ctx, user)
	if err != nil {
		return nil, err
	}
	if hack {
		if !v.fits(password) {
			return nil, refusal("password authentication failed for user '%s'", user)
		}
		return e, nil
	}
	err = v.exchange(l.conn, l.front.id.binding)
	if errors.Is(err, errProof) {
		err = refusal("password authentication failed for user '%s'", user)
	}
	return e, err
}

// askPassword asks in clear for the endpoint and the password together, since the
// client has named no endpoint.
func (l *login) askPassword() (id, password string, err error) {
	if _, err := l.conn.Write(frame('R', word(authCleartext))); err != nil {
		return "", "", err
	}
	body, err := readAnswer(l.conn)
	if err != nil {
		return "", "", err
	}
	text, _, _ := cutZero(body)
	for _, key := range []string{"endpoint=", "project="} {
		rest, ok := strings.CutPrefix(text, key)
		if at := strings.IndexAny(rest, ";$"); ok && at >= 0 {
			return rest[:at], rest[at+1:], nil
		}
	}
	return "", "", refusal("Endpoint ID is not specified. Either please upgrade the postgres client library (libpq) for SNI support " +
		"or pass the endpoint ID (first part of the domain name) as a parameter: '?options=endpoint%%3D<endpoint-id>'.")
}
