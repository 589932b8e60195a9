package session

import (
	"bytes"

	"crossfade/proxy/state"
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
