package session

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"crossfade/proxy/backend"
	"crossfade/proxy/ending"
	"crossfade/proxy/poll"
	"crossfade/proxy/rewrite"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// observed is what the proxy has seen of a session and no server can be asked for. It is the
// Observer of the session's Tracker, and guarded by Session.mu.
type observed struct {
	r *Session

	sniffer  state.Sniffer
	params   map[string]string // ParameterStatus as the client has seen it
	unnamed  []byte            // body of the Parse of the unnamed statement
	has      unnamed
	inserted bool // the last command, leaving out COMMIT and the like, was an INSERT
}

// unnamed says what is known of a client's unnamed statement.
type unnamed uint8

const (
	unnamedNone  unnamed = iota
	unnamedKnown         // its text is kept in unnamed
	unnamedLost          // there is one, and its text was too long to be kept
)

// keepUnnamed is how many bytes an idle session may keep allocated for an unnamed statement that no
// longer exists.
const keepUnnamed = 4 << 10

// Parse: the client has an unnamed statement.
func (m *observed) Parse(body []byte) {
	if m.has = unnamedKnown; body == nil {
		m.has = unnamedLost
	}
	m.r.mu.server.filter.Late.Forget("")
	m.unnamed = append(m.unnamed[:0], body...)
	if body != nil {
		m.current(body)
	}
}

// current makes the sniffer forget earlier unnamed statements.
func (m *observed) current(parse []byte) {
	if !m.r.mu.tracker.ParsesPending() {
		m.sniffer.Names.Current(parse)
	}
}

// Simple: it has none.
func (m *observed) Simple() {
	m.has = unnamedNone
	m.r.mu.server.filter.Late.Forget("")
	m.current(nil)
	if cap(m.unnamed) > keepUnnamed {
		m.unnamed = nil
	}
	m.unnamed = m.unnamed[:0]
}

// ParameterStatus: the client has been told the value of a setting.
func (m *observed) ParameterStatus(name, value []byte) {
	if old, ok := m.params[string(name)]; !ok || old != string(value) {
		m.params[string(name)] = string(value)
		m.sniffer.Contexts.Reported(string(name), string(value))
	}
}

// CommandComplete: an INSERT may have left a lastval, which a client asks for in a
// SELECT of its own.
func (m *observed) CommandComplete(tag []byte) {
	switch {
	case bytes.HasSuffix(tag, []byte("PREPARED")) || bytes.HasSuffix(tag, []byte("PREPARE TRANSACTION")):
		m.twoPhase(tag)
	case bytes.HasPrefix(tag, []byte("INSERT")):
		m.inserted = true
	case bytes.HasPrefix(tag, []byte("SELECT")):
		m.inserted = false
	case bytes.HasPrefix(tag, []byte("D")) || bytes.HasPrefix(tag, []byte("ROLLBACK")):
		m.sniffer.Contexts.Tag(string(tag))
		if bytes.Equal(tag, []byte("DISCARD ALL")) || bytes.Equal(tag, []byte("DEALLOCATE ALL")) {
			m.r.mu.server.filter.Late.ForgetAll()
		}
	}
}

// Refused: what the client was setting may not have been set.
func (m *observed) Refused() { m.sniffer.Contexts.Refused() }

// unnamedStatement returns a copy of the unnamed statement; lost says that there is one whose text
// is not known. Called with mu locked.
func (m *observed) unnamedStatement() (parse *wire.Parse, lost bool) {
	if m.has != unnamedKnown {
		return nil, m.has == unnamedLost
	}
	p, err := wire.DecodeParse(m.unnamed)
	if err != nil {
		return nil, true
	}
	return &p, false
}

// maxStruckNotes bounds how many of the clients that were ended in an attempt are named.
const maxStruckNotes = 1000

// struck is the clients that were ended during an attempt, no matter what ended them: the move, a
// server that went away, the hold limit. Clients that closed their connections are not among them,
// nor those that the operator's policy disconnects. Safe for concurrent use.
type struck struct {
	mu    sync.Mutex
	on    bool
	known map[uint64]bool // sessions of this attempt
	notes []Note          // of this attempt
	total int64           // since the start
	first int64           // total at the beginning of this attempt
}

// Begin is the beginning of an attempt, or its going on.
func (s *struck) Begin(first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on = true; first || s.known == nil {
		s.known, s.notes, s.first = map[uint64]bool{}, nil, s.total
	}
}

// End is the end of an attempt. Who is ended from here on is not of it.
func (s *struck) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = false
}

// Add takes a client, a session once. id is 0 for one that has no session yet.
// late says that it is of the attempt though that is over.
func (s *struck) Add(id uint64, n Note, late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.on && !late || id > 0 && s.known[id] {
		return
	}
	if id > 0 {
		s.known[id] = true
	}
	s.total++
	if len(s.notes) < maxStruckNotes {
		s.notes = append(s.notes, n)
	}
}

// Spare has a session not be counted: it is ended on purpose, and counted elsewhere.
func (s *struck) Spare(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[uint64]bool{}
	}
	s.known[id] = true
}

func (s *struck) Sum() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// OfAttempt returns how many there are of this attempt, with the notes on them.
func (s *struck) OfAttempt() (int, []Note) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.total - s.first), append([]Note(nil), s.notes...)
}

// Strike counts the session if it has ended and not by its client.
func (r *Session) Strike() {
	cause := context.Cause(r.ctx)
	if cause == nil || errors.Is(cause, ending.ErrClientGone) {
		return
	}
	r.mu.Lock()
	lacks := r.mu.serving.lacks
	r.mu.Unlock()
	r.p.Struck.Add(r.Id, r.Note("ended", ending.InWords(cause)), lacks)
}

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
