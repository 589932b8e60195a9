package session

import (
	"bytes"
	"encoding/binary"
)

const (
	// maxSniff is how much of a statement is looked at for names of settings, in
	// bytes. A statement larger than this carries data, not settings.
	maxSniff = 1 << 20
	// keepSniff is what an idle session may go on holding.
	keepSniff = 4 << 10
)

// Sniffer picks the text of Query and Parse out of the client's bytes and has
// Names learn from it. It is shown every byte from the client once and in order,
// in any cut. It copies only what a cut has split. Not safe for concurrent use.
type Sniffer struct {
	Names Names

	head [5]byte
	seen int    // bytes of head
	left int    // bytes of the body still to come
	part []byte // beginning of a body that came in parts
	over bool   // more than maxSniff came: the rest of this body is passed over
}

// Client looks at bytes from the client.
func (s *Sniffer) Client(p []byte) {
	for len(p) > 0 {
		if s.seen < len(s.head) {
			n := copy(s.head[s.seen:], p)
			s.seen += n
			p = p[n:]
			if s.seen < len(s.head) {
				return
			}
			s.left = max(0, int(binary.BigEndian.Uint32(s.head[1:]))-4)
		}
		n := min(s.left, len(p))
		s.body(p[:n])
		p = p[n:]
		s.left -= n
		if s.left == 0 {
			s.end()
		}
	}
}

// body takes the next bytes of a body, the last of them included.
func (s *Sniffer) body(b []byte) {
	if s.head[0] != 'Q' && s.head[0] != 'P' || s.over {
		return
	}
	if len(s.part) == 0 && len(b) == s.left {
		s.statement(b)
		return
	}
	if room := maxSniff - len(s.part); len(b) > room {
		b, s.over = b[:room], true
	}
	s.part = append(s.part, b...)
}

func (s *Sniffer) end() {
	if len(s.part) > 0 {
		s.statement(s.part)
	}
	s.part = s.part[:0]
	if cap(s.part) > keepSniff {
		s.part = nil
	}
	s.seen, s.over = 0, false
}

// statement takes the body of a Query or Parse.
func (s *Sniffer) statement(body []byte) {
	if s.head[0] == 'P' {
		i := bytes.IndexByte(body, 0)
		if i < 0 {
			return
		}
		body = body[i+1:]
	}
	if i := bytes.IndexByte(body, 0); i >= 0 {
		body = body[:i]
	}
	s.Names.Statement(body)
}
