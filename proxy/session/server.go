package session

import (
	"sync/atomic"

	"crossfade/proxy/backend"
	"crossfade/proxy/poll"
	"crossfade/proxy/rewrite"
	"crossfade/proxy/side"
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// server is a server connection that serves a session.
type server struct {
	conn     *backend.Conn
	in       *poll.Reader
	endpoint *side.Endpoint
	login    string         // role that the proxy logged in as
	pid      atomic.Int32   // pg_backend_pid() once it was captured, before that the pid of its key data
	typeMap  *typemap.Map   // nil where numbers of types need no translation
	filter   rewrite.Filter // what is changed between the client and the server
}

// known returns a Parse in the numbers of the server that the session is served by.
func (s *server) known(p *wire.Parse) *wire.Parse {
	if p == nil || s.typeMap == nil {
		return p
	}
	q := *p
	q.OIDs = make([]uint32, len(p.OIDs))
	for i, oid := range p.OIDs {
		q.OIDs[i] = s.typeMap.ToServer(oid)
	}
	return &q
}

// translated makes the server translate numbers of types from now on, if its side has
// others than the client knows.
func (s *server) translated(m *typemap.Map, have []typemap.Statement) {
	if m != nil {
		s.typeMap, s.filter.Types = m, m.NewSession(have)
	}
}
