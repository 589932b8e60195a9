package proxy

import (
	"bytes"

	"crossfade/proxy/wire"
)

// memory is a relay as its Tracker's Observer: what a session must remember
// because no server tells it. Its methods are called with relay.mu locked.
type memory relay

// keepUnnamed is how much an idle session may hold for an unnamed statement that
// is gone, in bytes.
const keepUnnamed = 4 << 10

// Parse: the client has an unnamed statement.
func (m *memory) Parse(body []byte) {
	m.mu.hasUnnamed, m.mu.lostUnnamed = body != nil, body == nil
	m.mu.server.late.forget("")
	m.mu.unnamed = append(m.mu.unnamed[:0], body...)
	if body != nil {
		m.current(body)
	}
}

// current has the sniffer forget unnamed statements of before.
func (m *memory) current(parse []byte) {
	if !m.mu.tracker.ParsesPending() {
		m.mu.sniffer.Names.Current(parse)
	}
}

// Simple: it has none.
func (m *memory) Simple() {
	m.mu.hasUnnamed, m.mu.lostUnnamed = false, false
	m.mu.server.late.forget("")
	m.current(nil)
	if cap(m.mu.unnamed) > keepUnnamed {
		m.mu.unnamed = nil
	}
	m.mu.unnamed = m.mu.unnamed[:0]
}

// ParameterStatus: the client has been told the value of a setting.
func (m *memory) ParameterStatus(name, value []byte) {
	if old, ok := m.mu.params[string(name)]; !ok || old != string(value) {
		m.mu.params[string(name)] = string(value)
		m.mu.sniffer.Contexts.Reported(string(name), string(value))
	}
}

// CommandComplete: an INSERT may have left a lastval, which a client asks for in a
// SELECT of its own.
func (m *memory) CommandComplete(tag []byte) {
	switch {
	case bytes.HasSuffix(tag, []byte("PREPARED")) || bytes.HasSuffix(tag, []byte("PREPARE TRANSACTION")):
		m.twoPhase(tag)
	case bytes.HasPrefix(tag, []byte("INSERT")):
		m.mu.inserted = true
	case bytes.HasPrefix(tag, []byte("SELECT")):
		m.mu.inserted = false
	case bytes.HasPrefix(tag, []byte("D")) || bytes.HasPrefix(tag, []byte("ROLLBACK")):
		m.mu.sniffer.Contexts.Tag(string(tag))
		if bytes.Equal(tag, []byte("DISCARD ALL")) || bytes.Equal(tag, []byte("DEALLOCATE ALL")) {
			m.mu.server.late.forgetAll()
		}
	}
}

// Refused: what the client was setting may not have been set.
func (m *memory) Refused() { m.mu.sniffer.Contexts.Refused() }

// unnamedStatement returns the unnamed statement in memory of its own; lost says
// that there is one whose text is not known. Called with mu locked.
func (r *relay) unnamedStatement() (parse *wire.Parse, lost bool) {
	if !r.mu.hasUnnamed {
		return nil, r.mu.lostUnnamed
	}
	p, err := wire.DecodeParse(r.mu.unnamed)
	if err != nil {
		return nil, true
	}
	return &p, false
}
