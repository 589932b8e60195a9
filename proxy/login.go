package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"time"

	"crossfade/internal/obs"
	"crossfade/internal/pg"
	"crossfade/proxy/auth"
	"crossfade/proxy/auth/scram"
	"crossfade/proxy/backend"
	"crossfade/proxy/session"
	"crossfade/proxy/wire"
)

// Lengths of a cancel key in bytes: what protocol 3.0 allows, and what 3.2 does.
const (
	shortKey = 4
	longKey  = 32
)

// login is a client from its start-up packet to its session.
type login struct {
	*stranger
	version  uint32
	user     string
	database string
	startup  session.Startup
	proof    auth.Proof
}

// identify negotiates the version and proves who the client is.
func (l *login) identify(ctx context.Context, s *wire.Startup) error {
	if err := l.negotiate(s); err != nil {
		return err
	}
	l.startup = session.NewStartup(s.Params)
	l.user, _ = s.Get("user")
	l.database, _ = s.Get("database")
	if l.user == "" {
		return fatal(pg.CodeInvalidAuthorization, "no PostgreSQL user name specified in startup packet")
	}
	if l.database == "" {
		l.database = l.user
	}
	var err error
	l.proof, err = auth.Server(ctx, l.conn, auth.Client{User: l.user, Address: origin(l.conn.RemoteAddr()).String(), Binding: l.certHash,
		Certificate: l.commonName, CertificateOnly: l.p.cfg.RequireCertificate}, l.p.cfg.Auth)
	return err
}

// negotiate tells a client that asks for more what is spoken here.
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
func (l *login) enter(ctx context.Context) (*relay, error) {
	p := l.p
	_ = l.conn.SetDeadline(time.Time{})
	if ctx.Err() != nil {
		return nil, errClosing
	}
	lease, err := l.admit(ctx)
	if err != nil {
		return nil, err
	}
	defer lease.Release()

	now := p.router.Current()
	at, err := p.cfg.endpoint(now.Endpoint)
	if err != nil {
		return nil, err
	}
	name, conn, err := l.dial(ctx, at)
	if err != nil {
		return nil, err
	}
	types, err := p.typesAt(ctx, at, caller{l.user, l.database, l.proof})
	if err != nil {
		terminate(conn)
		p.log.Warn().Err(err).Str(obs.KeyEndpoint, at.Name).Str(obs.KeyDatabase, l.database).Msg("types not compared")
		return nil, fatal(pg.CodeConnectionFailure, "the server behind the proxy cannot be asked for its types")
	}
	r := l.relay(at, name, conn, now.Epoch > 0)
	r.mu.server.translated(types, nil)
	_ = l.conn.SetWriteDeadline(time.Now().Add(p.cfg.LoginTimeout))
	if _, err := l.conn.Write(l.greeting(r)); err != nil {
		p.leave(r)
		terminate(conn)
		return nil, errClientGone
	}
	_ = l.conn.SetWriteDeadline(time.Time{})
	return r, nil
}

// dial logs in at the endpoint as the client would, and returns the name there.
func (l *login) dial(ctx context.Context, at *Endpoint) (string, *backend.Conn, error) {
	if at.ShutOut != nil && at.ShutOut(l.user) { // in the words of a server
		refused := fatal(pg.CodeInsufficientPrivilege, "permission denied for database %q", l.database)
		refused.Detail = "User does not have CONNECT privilege."
		return "", nil, refused
	}
	as, err := at.account(l.user, l.proof)
	if err != nil {
		return "", nil, fatal(pg.CodeInvalidAuthorization, "%s", err.Error())
	}
	database := at.database(l.database)
	if database == "" {
		return "", nil, fatal(pg.CodeInvalidCatalog, "database %q is not served by this proxy", l.database)
	}
	params := l.startup.Params
	pins, err := at.pins(ctx, l.user, l.database)
	if err == nil {
		if at.Name != Source || len(pins) > 0 {
			params = l.startup.Moved(pins, nil, roles(l.user, as.name, at))
		}
		var conn *backend.Conn
		if conn, err = l.p.dial(ctx, at, as, database, params); err == nil {
			return as.name, conn, nil
		}
	}
	l.p.log.Warn().Err(err).Str(obs.KeyEndpoint, at.Name).Str(obs.KeyUser, l.user).Str(obs.KeyDatabase, l.database).Msg("server not reached")
	return "", nil, l.unreached(at, as, err)
}

// unreached puts into words for the client why its server could not be had. The client has proved who it is, so that a
// password which the server refuses is not its mistake, unless it proved itself by what the server had before.
func (l *login) unreached(at *Endpoint, as account, err error) *wire.ServerError {
	var refused *wire.ServerError
	switch {
	case errors.Is(err, scram.ErrOtherVerifier):
		return auth.Refused(l.user)
	case errors.Is(err, backend.ErrNoPassword):
		return fatal(pg.CodeInvalidAuthorization, "%s", (&CredentialsError{User: l.user, Endpoint: at.Name}).Error())
	case !errors.As(err, &refused):
		return fatal(pg.CodeConnectionFailure, "the server behind the proxy cannot be reached")
	case refused.Code == pg.CodeInternal && pg.ComputeMeant(refused.Message) != "":
		return fatal(pg.ComputeMeant(refused.Message), "%s", refused.Message)
	case as.password == "" || !backend.PasswordRefused(refused):
		return refused
	}
	return fatal(pg.CodeInvalidAuthorization, "the %s refuses the password that is configured for role %q there; correct it in the users file or the connection string", at.Name, as.name)
}

// relay makes the session and enters it into the registry.
func (l *login) relay(at *Endpoint, name string, conn *backend.Conn, rewritten bool) *relay {
	r := &relay{
		p: l.p, client: l.conn, in: newReader(l.conn, nil),
		proof: l.proof, user: l.user, database: l.database, startup: l.startup,
		key: newKey(l.version), turn: make(chan struct{}, 1),
	}
	r.ctx, r.end = context.WithCancelCause(l.base)
	r.mu.changed = make(chan struct{})
	r.mu.tracker.Observer = (*memory)(r)
	r.mu.params = maps.Clone(conn.Params)
	r.mu.server = &server{conn: conn, in: newReader(conn.Conn, conn.Leftover()), endpoint: at, login: name}
	r.mu.server.pid.Store(int32(conn.PID))
	if rewritten {
		r.mu.server.rewrite, r.mu.server.numbers = &rewriter{translate: l.p.clientPID}, &backendNumbers{p: l.p}
	}
	l.startup.Names(&r.mu.sniffer.Names)
	if r.mu.params["session_authorization"] == name {
		r.mu.params["session_authorization"] = l.user
	}
	l.p.enter(r, conn.PID)
	r.log = l.p.log.With().Uint64(obs.KeySession, r.id).Logger()
	r.log.Debug().Str(obs.KeyUser, r.user).Str(obs.KeyDatabase, r.database).Str(obs.KeyEndpoint, at.Name).Msg("session begins")
	return r
}

// greeting is what a server says behind AuthenticationOk.
func (l *login) greeting(r *relay) []byte {
	r.mu.Lock()
	params := maps.Clone(r.mu.params)
	r.mu.Unlock()
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(params)) {
		b = wire.AppendParameterStatus(b, name, params[name])
	}
	b = wire.AppendBackendKeyData(b, r.pid, r.key)
	return wire.AppendReadyForQuery(b, 'I')
}

func newKey(version uint32) []byte {
	n := shortKey
	if version >= wire.Version32 {
		n = longKey
	}
	key := make([]byte, n)
	_, _ = rand.Read(key) // never fails
	return key
}
