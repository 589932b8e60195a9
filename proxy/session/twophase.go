package session

import (
	"bytes"

	"crossfade/internal/base/sqltext"
	"crossfade/proxy/wire"
)

// A transaction that was prepared holds its locks until its COMMIT PREPARED, which any session may
// send, and which is no part of a transaction: at the closed gate it would be held, and the fence
// would wait for it. So while sessions drain, statements that end a prepared transaction are let
// through, and the drain waits until none is left.

// twoPhase counts the prepared transactions of the clients. Called with mu locked.
func (m *observed) twoPhase(tag []byte) {
	switch string(tag) {
	case "PREPARE TRANSACTION":
		m.r.p.Counts.Prepared.Add(1)
	case "COMMIT PREPARED", "ROLLBACK PREPARED":
		m.r.p.Counts.Prepared.Add(-1)
	}
}

// finishing returns the length of the unit that p begins with, if all that it does is to
// end a prepared transaction and the drain lets it, else 0. Called with mu locked.
func (r *clientPump) finishing(p []byte) int {
	if !r.mu.hold.gate || r.mu.hold.wanted || !r.p.Draining.Load() || !r.mu.tracker.Boundary() {
		return 0
	}
	n := firstUnit(p)
	if n == 0 || !endsPrepared(p[:n]) {
		return 0
	}
	return n
}

// endsPrepared reports whether a unit is one statement that ends a prepared transaction.
func endsPrepared(unit []byte) bool {
	parses := 0
	for len(unit) > 0 {
		typ, body, rest, ok := wire.Cut(unit)
		if !ok {
			return false
		}
		switch typ {
		case 'Q':
			return EndsPrepared(string(body))
		case 'P':
			_, text, _ := bytes.Cut(body, []byte{0})
			text, _, _ = bytes.Cut(text, []byte{0})
			if parses++; parses > 1 || !EndsPrepared(string(text)) {
				return false
			}
		case 'B', 'D', 'E', 'C', 'H', 'S':
		default:
			return false
		}
		unit = rest
	}
	return parses == 1
}

// EndsPrepared reports whether a text is one COMMIT PREPARED or ROLLBACK PREPARED.
func EndsPrepared(text string) bool {
	l := sqltext.Scanner{Src: text}
	if t := l.Next(); !t.Is("commit") && !t.Is("rollback") {
		return false
	}
	if !l.Next().Is("prepared") || l.Next().Kind != sqltext.String {
		return false
	}
	t := l.Next()
	for t.Punct(';') || t.Punct(0) {
		t = l.Next()
	}
	return t.Kind == sqltext.End
}
