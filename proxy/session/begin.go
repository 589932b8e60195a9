package session

import (
	"context"
	"crypto/rand"
	"maps"
	"net"
	"slices"

	"crossfade/internal/base/obs"
	"crossfade/proxy/backend"
	"crossfade/proxy/poll"
	"crossfade/proxy/rewrite"
	"crossfade/proxy/side"
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// Lengths of a cancel key in bytes: what protocol 3.0 allows, and what 3.2 does.
const (
	shortKey = 4
	longKey  = 32
)

// ServedBy is the server that a session begins with.
type ServedBy struct {
	At    *side.Endpoint
	Name  string // role that the proxy logged in as
	Conn  *backend.Conn
	Types *typemap.Map // nil where its side numbers types as clients know them
	Moved bool         // sessions have been moved: numbers that clients know may be others' there
}

// New makes a session and enters it into the registry. It does not run before begin.
func New(ctx context.Context, p *Registry, who Identity, client net.Conn, by ServedBy) *Session {
	r := newRelay(ctx, p, who, client)
	r.mu.observed.params = maps.Clone(by.Conn.Params)
	r.mu.server = &server{conn: by.Conn, in: poll.NewReader(by.Conn.Conn, by.Conn.Leftover()), endpoint: by.At, login: by.Name}
	r.mu.server.pid.Store(int32(by.Conn.PID))
	if by.Moved {
		r.mu.server.filter = rewrite.Filter{PIDs: p.Pids.ClientPID, Backends: rewrite.NewBackends(p.Pids.BackendOf, nil)}
	}
	r.mu.server.translated(by.Types, nil)
	if by.Moved || by.Types != nil {
		r.mu.tracker.Filter = &r.mu.server.filter
	}
	r.Startup.Names(&r.mu.observed.sniffer.Names)
	if r.mu.observed.params["session_authorization"] == by.Name {
		r.mu.observed.params["session_authorization"] = r.User
	}
	p.enter(r, by.Conn.PID)
	r.Log = p.Log.With().Uint64(obs.KeySession, r.Id).Logger()
	r.Log.Debug().Str(obs.KeyUser, r.User).Str(obs.KeyDatabase, r.Database).Str(obs.KeyEndpoint, by.At.Name).Msg("session begins")
	return r
}

// Hello is what a server sends after AuthenticationOk.
func (r *Session) Hello() []byte {
	r.mu.Lock()
	params := maps.Clone(r.mu.observed.params)
	r.mu.Unlock()
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(params)) {
		b = wire.AppendParameterStatus(b, name, params[name])
	}
	b = wire.AppendBackendKeyData(b, r.pid, r.Key)
	return wire.AppendReadyForQuery(b, 'I')
}

// NewKey makes a key for cancel requests, as long as the version of the protocol wants it.
func NewKey(version uint32) []byte {
	n := shortKey
	if version >= wire.Version32 {
		n = longKey
	}
	key := make([]byte, n)
	_, _ = rand.Read(key) // never fails
	return key
}
