package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/proxy/auth"
	"crossfade/proxy/auth/scram"
	"crossfade/proxy/backend"
	"crossfade/proxy/ending"
	"crossfade/proxy/poll"
	"crossfade/proxy/route"
	"crossfade/proxy/session"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/wire"
)

// login is a client from its start-up packet to its session.
type login struct {
	*pendingLogin
	version  uint32
	user     string
	database string
	startup  state.Startup
	proof    auth.Proof
}

// identify negotiates the version and proves who the client is.
func (l *login) identify(ctx context.Context, s *wire.Startup) error {
	if err := l.negotiate(s); err != nil {
		return err
	}
	l.startup = state.NewStartup(s.Params)
	l.user, _ = s.Get("user")
	l.database, _ = s.Get("database")
	if l.user == "" {
		return ending.Fatal(pg.CodeInvalidAuthorization, "no PostgreSQL user name specified in startup packet")
	}
	l.database = cmp.Or(l.database, l.user)
	var err error
	l.proof, err = auth.Server(ctx, l.conn, auth.Client{User: l.user, Address: origin(l.conn.RemoteAddr()).String(), Binding: l.certHash,
		Certificate: l.commonName, CertificateOnly: l.p.cfg.RequireCertificate}, l.p.cfg.Auth)
	return err
}

// negotiate answers a client that asks for a newer version with the one that is spoken here.
func (l *login) negotiate(s *wire.Startup) error {
	if s.Version >= wire.Version32 {
		l.version = wire.Version32
	}
	extensions := s.Extensions()
	if s.Version == l.version && len(extensions) == 0 {
		return nil
	}
	_, err := l.conn.Write(wire.AppendNegotiate(nil, l.version, extensions))
	return err
}

// enter waits at the gate, dials a server and makes a session of the two.
func (l *login) enter(ctx context.Context) (*session.Session, error) {
	p := l.p
	_ = l.conn.SetDeadline(time.Time{})
	if ctx.Err() != nil {
		return nil, ending.ErrClosing
	}
	lease, err := l.admit(ctx)
	if err != nil {
		return nil, err
	}
	defer lease.Release()

	now := p.Sides.Router.Current()
	at, err := p.Sides.Endpoint(now.Endpoint)
	if err != nil {
		return nil, err
	}
	name, conn, err := l.dial(ctx, at)
	if err != nil {
		return nil, err
	}
	types, err := p.Sides.TypesAt(ctx, at, side.Caller{User: l.user, Database: l.database, Proof: l.proof})
	if err != nil {
		side.Terminate(conn)
		p.Log.Warn().Err(err).Str(obs.KeyEndpoint, at.Name).Str(obs.KeyDatabase, l.database).Msg("types not compared")
		return nil, ending.Fatal(pg.CodeConnectionFailure, "the server behind the proxy cannot be asked for its types")
	}
	r := session.New(l.base, l.p.Registry, l.identity(), l.conn, session.ServedBy{At: at, Name: name, Conn: conn, Types: types, Moved: now.Epoch > 0})
	if err := l.welcome(r.Hello()); err != nil {
		p.Leave(r)
		side.Terminate(conn)
		return nil, err
	}
	return r, nil
}

// welcome sends what a server says after AuthenticationOk.
func (l *login) welcome(hello []byte) error {
	_ = l.conn.SetWriteDeadline(time.Now().Add(l.p.cfg.LoginTimeout))
	if _, err := l.conn.Write(hello); err != nil {
		return ending.ErrClientGone
	}
	_ = l.conn.SetWriteDeadline(time.Time{})
	return nil
}

// dial logs in at the endpoint as the client would, and returns the name of the role there.
func (l *login) dial(ctx context.Context, at *side.Endpoint) (string, *backend.Conn, error) {
	if at.ShutOut != nil && at.ShutOut(l.user) { // in the words of a server
		refused := ending.Fatal(pg.CodeInsufficientPrivilege, "permission denied for database %q", l.database)
		refused.Detail = "User does not have CONNECT privilege."
		return "", nil, refused
	}
	as, err := at.Account(l.user, l.proof)
	if err != nil {
		return "", nil, ending.Fatal(pg.CodeInvalidAuthorization, "%s", err.Error())
	}
	database := at.DatabaseOf(l.database)
	if database == "" {
		return "", nil, ending.Fatal(pg.CodeInvalidCatalog, "database %q is not served by this proxy", l.database)
	}
	params := l.startup.Params
	pins, err := at.Pinned(ctx, l.user, l.database)
	if err == nil {
		if at.Name != side.Source || len(pins) > 0 {
			params = l.startup.Moved(pins, nil, side.Roles(l.user, as.Name, at))
		}
		var conn *backend.Conn
		if conn, err = l.p.Sides.Dial(ctx, at, as, database, params); err == nil {
			return as.Name, conn, nil
		}
	}
	l.p.Log.Warn().Err(err).Str(obs.KeyEndpoint, at.Name).Str(obs.KeyUser, l.user).Str(obs.KeyDatabase, l.database).Msg("server not reached")
	return "", nil, l.unreached(at, as, err)
}

// unreached words for the client why its server could not be reached. The client has authenticated,
// so a password that the server refuses is not its mistake, unless the client authenticated with
// what the server had before.
func (l *login) unreached(at *side.Endpoint, as side.Account, err error) *wire.ServerError {
	var refused *wire.ServerError
	switch {
	case errors.Is(err, scram.ErrOtherVerifier):
		return auth.Refused(l.user)
	case errors.Is(err, backend.ErrNoPassword):
		return ending.Fatal(pg.CodeInvalidAuthorization, "%s", (&side.CredentialsError{User: l.user, Endpoint: at.Name}).Error())
	case !errors.As(err, &refused):
		return ending.Fatal(pg.CodeConnectionFailure, "the server behind the proxy cannot be reached")
	case refused.Code == pg.CodeInternal && pg.ComputeMeant(refused.Message) != "":
		return ending.Fatal(pg.ComputeMeant(refused.Message), "%s", refused.Message)
	case as.Password == "" || !backend.PasswordRefused(refused):
		return refused
	}
	return ending.Fatal(pg.CodeInvalidAuthorization, "the %s refuses the password that is configured for role %q there; correct it in the users file or the connection string", at.Name, as.Name)
}

// identity is who the client has proved to be.
func (l *login) identity() session.Identity {
	return session.Identity{Proof: l.proof, User: l.user, Database: l.database, Startup: l.startup, Key: session.NewKey(l.version)}
}

// isClosing reports whether the proxy is shutting down and admits no more clients.
func (p *Desk) isClosing() bool {
	return p.closing.Err() != nil
}

// admit waits at the gate, at most HoldLimit.
func (l *login) admit(ctx context.Context) (*route.Lease, error) {
	p := l.p
	waiting, cancel := context.WithTimeout(ctx, p.HoldLimit)
	defer cancel()
	stop := context.AfterFunc(p.closing, cancel)
	defer stop()
	lease, err := p.gate.Enter(waiting)
	switch {
	case p.isClosing(), ctx.Err() != nil:
		err = ending.ErrClosing
	case err != nil:
		p.Struck.Add(0, session.Note{User: l.user, Database: l.database, Client: l.conn.RemoteAddr().String(), Code: "ended",
			Detail: "its login waited at the closed gate for longer than the hold limit"}, false)
		err = ending.Fatal(pg.CodeCannotConnectNow, "the database is being moved and has not been back within %s; try again", p.HoldLimit)
	}
	if err != nil && lease != nil {
		lease.Release()
	}
	return lease, err
}

// encrypt answers a request for TLS and begins it; peeked means that the client has begun already.
func (x *pendingLogin) encrypt(ctx context.Context, peeked []byte) error {
	if x.tls || x.ssl {
		return ending.Fatal(pg.CodeProtocolViolation, "encryption was asked for twice")
	}
	x.ssl = true
	answer := byte('S')
	if x.p.cfg.TLS == nil {
		answer = 'N'
	}
	if peeked == nil {
		// Nothing was read after the request: everything that follows is read through TLS.
		if _, err := x.conn.Write([]byte{answer}); err != nil {
			return err
		}
	}
	if answer == 'N' {
		return nil
	}
	conn, binding, err := x.p.cfg.TLS.Handshake(ctx, poll.NewConn(x.conn, peeked), peeked != nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errHandshake, err)
	}
	x.conn, x.certHash, x.commonName, x.tls = conn, binding, tlsconf.CommonName(conn), true
	return nil
}

// errHandshake is a TLS handshake that failed: TLS has told the client so, and nothing else would
// be understood.
var errHandshake = errors.New("TLS handshake")

// refuse tells the client why, if it can be told. After a failed handshake TLS has already told it
// what was wrong.
func (x *pendingLogin) refuse(err error) {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, errHandshake) {
		return
	}
	words := ending.LastWords(err)
	var version *wire.VersionError
	switch {
	case errors.As(err, &version):
		words = ending.Fatal(pg.CodeFeatureNotSupported, "%s", version.Error())
	case poll.TimedOut(err) || errors.Is(err, context.DeadlineExceeded) && words.Code == pg.CodeConnectionFailure:
		if !x.spoke || x.base.Err() != nil {
			return
		}
		words = ending.Fatal(pg.CodeQueryCanceled, "canceling authentication due to timeout")
	case words == nil:
		return
	}
	x.p.Log.Info().Err(err).Stringer("client", x.conn.RemoteAddr()).Msg("client refused")
	ending.Farewell(x.conn, words)
}

// dismiss tells a client that its connection is closed to make room. It does not wait: there may be
// many of them.
func (x *pendingLogin) dismiss(words *wire.ServerError) {
	if x.p.cfg.TLS != nil && !x.tls {
		return // perhaps in the middle of a handshake
	}
	_ = x.conn.SetWriteDeadline(time.Now().Add(dismissTimeout))
	_, _ = x.conn.Write(wire.AppendError(nil, words))
}

// dismissTimeout bounds a write of some hundred bytes into a socket whose buffer is empty.
const dismissTimeout = 50 * time.Millisecond

// errNoReplication refuses replication connections while the target is active.
var errNoReplication = ending.Fatal("0A000", "replication connections are passed to the source only, and the source is not active any more; connect to the target itself")

// stream waits at the gate, dials the source and makes a stream of the two.
func (l *login) stream(ctx context.Context) (*session.Stream, error) {
	p := l.p
	_ = l.conn.SetDeadline(time.Time{})
	if ctx.Err() != nil {
		return nil, ending.ErrShutdown
	}
	lease, err := l.admit(ctx)
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	if p.Sides.Router.Current().Endpoint != side.Source {
		return nil, errNoReplication
	}
	at := p.Sides.Source
	if !l.startup.ReplicationDatabase() {
		at.Database = nil // a physical one is connected to no database, and the name means nothing
	}
	at.Pins = nil // nothing that it sends depends on these settings
	name, conn, err := l.dial(ctx, &at)
	if err != nil {
		return nil, err
	}
	s := session.NewStream(l.base, p.Registry, l.identity(), l.conn, conn)
	if err := l.welcome(s.Hello(name)); err != nil {
		p.LeaveStream(s)
		side.Terminate(conn)
		return nil, err
	}
	p.Log.Info().Str(obs.KeyUser, l.user).Str(obs.KeyDatabase, l.database).Msg("replication connection begins; it cannot be moved")
	return s, nil
}
