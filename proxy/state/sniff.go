package state

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"slices"

	"crossfade/internal/base/walk"
)

const (
	// maxSniff is how much of a statement is read for names of settings, in bytes.
	// A statement larger than this carries data; see hidden.
	maxSniff = 1 << 20
	// keepSniff is how many bytes an idle session may keep.
	keepSniff = 4 << 10
	// seam is how far back a part of a statement is searched together with the
	// next, in bytes: longer than what hidden looks for, with some white space.
	seam = 64
)

// hidden is what must not occur after the first maxSniff bytes of a statement.
var hidden = regexp.MustCompile(`(?i)set_config|;\s*(?:set|do)\s`)

// Sniffer picks the text of Query and Parse out of the client's frames, and the values of a Bind
// where one of them is the name of a setting, and has Names learn from them. It is the Follower of
// a session's wire.Tracker. It copies only what a cut has split. Not safe for concurrent use.
type Sniffer struct {
	Names    Names
	Contexts Contexts
	Backends bool // the client has named backends by their numbers

	typ  byte   // of the frame under way
	part []byte // beginning of a body that came in parts
	over bool   // more than maxSniff came
	edge []byte // what came after that and has not been searched
}

// Begin is the head of a frame; it reports whether its body is of use.
func (s *Sniffer) Begin(typ byte, _ uint32) bool {
	switch s.typ = typ; typ {
	case 'Q', 'P', 'F':
		return true
	case 'B':
		return s.Names.binds() || s.Contexts.binds()
	case 'C':
		return len(s.Contexts.made) > 0
	}
	return false
}

// Part takes the next bytes of a body, and whether they are the last ones.
func (s *Sniffer) Part(b []byte, last bool) {
	if last && len(s.part) == 0 && len(b) <= maxSniff {
		s.message(b)
		return
	}
	s.add(b)
	if last {
		s.end()
	}
}

func (s *Sniffer) add(b []byte) {
	if s.over {
		s.beyond(b)
		return
	}
	if room := maxSniff - len(s.part); len(b) > room {
		s.part = append(s.part, b[:room]...)
		s.over = true
		s.beyond(s.part[len(s.part)-min(seam, len(s.part)):])
		s.beyond(b[room:])
		return
	}
	s.part = append(s.part, b...)
}

// beyond searches what comes after the first maxSniff bytes of a statement.
func (s *Sniffer) beyond(b []byte) {
	if s.typ != 'Q' && s.typ != 'P' {
		return
	}
	for len(b) > 0 {
		n := min(len(b), keepSniff-len(s.edge))
		s.edge = append(s.edge, b[:n]...)
		b = b[n:]
		if len(s.edge) == keepSniff {
			s.search()
		}
	}
}

// search looks through what beyond has gathered, and keeps what may be the beginning of something.
func (s *Sniffer) search() {
	if hidden.Match(s.edge) {
		s.Names.Opaque("a statement of more than a megabyte that makes settings")
	}
	s.edge = append(s.edge[:0], s.edge[max(0, len(s.edge)-seam):]...)
}

func (s *Sniffer) end() {
	if len(s.part) > 0 {
		s.message(s.part)
	}
	s.part = s.part[:0]
	if cap(s.part) > keepSniff {
		s.part = nil
	}
	if s.over {
		s.search()
		s.edge = nil
	}
	s.over = false
}

// message takes the body of a Query, Parse, Bind or FunctionCall, perhaps without its end.
func (s *Sniffer) message(body []byte) {
	switch s.typ {
	case 'Q':
		body = bytes.TrimSuffix(body, []byte{0})
		s.backends(body)
		set := containsSet(body)
		s.Names.statement(body, set)
		s.Contexts.query(body, set)
	case 'P':
		if name, text, ok := cutParse(body); ok {
			s.backends(text)
			set := containsSet(text)
			s.Names.parse(name, text, set)
			s.Contexts.parse(name, text, set)
		}
	case 'B':
		s.Names.Bind(body)
		s.Contexts.bind(body)
	case 'C':
		if name, ok := bytes.CutPrefix(bytes.TrimSuffix(body, []byte{0}), []byte{'S'}); ok {
			s.Contexts.closed(string(name))
		}
	case 'F':
		s.Names.Call(body)
	}
}

// backends notes whether a text names backends by their numbers.
func (s *Sniffer) backends(text []byte) {
	if s.Backends || !AboutBackends(text) {
		return
	}
	b := FindBackends(string(text))
	s.Backends = len(b.Literals)+len(b.Params) > 0
}

// Bind learns, from the body of a Bind whose end may be missing, the parameters that its statement
// uses as names of settings. In both formats the value of a text is its bytes.
func (n *Names) Bind(body []byte) {
	v := walk.Bytes{Rest: body}
	v.Text() // the portal
	params := n.params(v.Text())
	if v.Bad || len(params) == 0 {
		return
	}
	v.Take(2 * v.Count()) // formats
	n.pick(params, &v)
}

// Call learns from the body of a FunctionCall.
func (n *Names) Call(body []byte) {
	if len(body) < 4 || binary.BigEndian.Uint32(body) != setConfigOID {
		return
	}
	v := walk.Bytes{Rest: body[4:]}
	v.Take(2 * v.Count())
	n.pick([]int{0}, &v)
}

// setConfigOID is the OID of pg_catalog.set_config in every version of PostgreSQL.
const setConfigOID = 2078

// pick learns the values at these positions.
func (n *Names) pick(params []int, v *walk.Bytes) {
	last := slices.Max(params)
	count := v.Count()
	for i := range min(count, last+1) {
		value, _ := v.Value()
		if !v.Bad && value != nil && slices.Contains(params, i) {
			n.Add(string(value))
		}
	}
	if v.Bad {
		n.Opaque("a value of more than a megabyte ahead of the name of a setting")
	}
}
