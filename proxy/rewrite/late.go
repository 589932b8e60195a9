package rewrite

import (
	"bytes"
	"slices"

	"crossfade/internal/base/lists"
	"crossfade/proxy/state"
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// Late are prepared statements that the client has made and that the server of the moment does not
// have, since they could not be parsed when the session was moved: the schema that they name was
// dropped, or a function of the application chooses it. Each is parsed when the client first uses
// it: a Parse goes ahead of its message, in the same unit, so that an error is the answer that the
// client's own server would have given. A session that has none of them never comes here. Called
// with the session's lock held.
type Late struct {
	pending map[string]state.LateStatement
	sent    []string // names of those whose Parse is not answered, in order
	tracker *wire.Tracker
}

// maxLate is how large a frame may be, in bytes, that is held until it is known which statement it
// is about: a name has 63, and the text of an EXECUTE is short. Of a larger Bind the prefix says
// it.
const maxLate = wire.PrefixLen

// NewLate returns nil where there are none. numbers translates those of types that
// clients know, as the server's numbers that the frames have will be. tracker is the session's.
func NewLate(list map[string]state.LateStatement, numbers *typemap.Map, tracker *wire.Tracker) *Late {
	if len(list) == 0 {
		return nil
	}
	l := &Late{pending: map[string]state.LateStatement{}, tracker: tracker}
	for name, st := range list {
		if p, err := wire.DecodeParse(st.Parse[wire.HeadLen:]); err == nil && numbers != nil {
			for i, oid := range p.OIDs {
				p.OIDs[i] = numbers.ToClient(oid)
			}
			st.Parse = wire.AppendParse(nil, p.Name, p.Query, p.OIDs)
		}
		l.pending[name] = st
	}
	return l
}

// Add puts those that are left into a state that was captured.
func (l *Late) Add(s *state.State) {
	if l == nil {
		return
	}
	for name, st := range l.pending {
		if _, there := s.Statements[name]; there || name == "" && s.Unnamed != nil {
			continue
		}
		lists.Put(&s.Late, name, st.Statement)
	}
}

func (l *Late) Forget(name string) {
	if l != nil {
		delete(l.pending, name)
	}
}

func (l *Late) ForgetAll() {
	if l != nil {
		clear(l.pending)
	}
}

// holds reports whether a frame of that type may use a statement that is pending.
func (l *Late) holds(typ byte) bool {
	if l == nil || len(l.pending) == 0 {
		return false
	}
	switch typ {
	case 'B', 'D', 'C', 'P', 'Q':
		return true
	}
	return false
}

// ahead appends what must precede a frame, of which the beginning may do. sent makes of a Parse
// what the server is to get.
func (l *Late) ahead(dst, frame []byte, sent func(parse []byte) []byte) []byte {
	if l == nil || len(l.pending) == 0 {
		return dst
	}
	need := func(name string) {
		if l.open(name) && l.tracker.Late() {
			dst = append(dst, sent(slices.Clone(l.pending[name].Parse))...)
			l.sent = append(l.sent, name)
		}
	}
	body := frame[wire.HeadLen:]
	switch frame[0] {
	case 'B':
		if _, statement, ok := bytes.Cut(body, []byte{0}); ok {
			if name, _, ok := bytes.Cut(statement, []byte{0}); ok {
				need(string(name))
			}
		}
	case 'D', 'C':
		if len(body) == 0 || body[0] != 'S' {
			break
		}
		name := string(bytes.TrimSuffix(body[1:], []byte{0}))
		if frame[0] == 'C' {
			delete(l.pending, name)
		} else {
			need(name)
		}
	case 'P':
		name, text, _ := bytes.Cut(body, []byte{0})
		text, _, _ = bytes.Cut(text, []byte{0})
		if len(name) > 0 {
			need(string(name)) // the server must say that there is one
		}
		for _, used := range l.used(text) {
			need(used)
		}
	case 'Q':
		for _, used := range l.used(bytes.TrimSuffix(body, []byte{0})) {
			if l.open(used) && l.tracker.LateAlone() {
				dst = wire.AppendSync(append(dst, sent(slices.Clone(l.pending[used].Parse))...))
				l.sent = append(l.sent, used)
			}
		}
	}
	return dst
}

// used are the statements that a text names in an EXECUTE or a DEALLOCATE.
func (l *Late) used(text []byte) []string {
	var list []string
	for name := range l.pending {
		if name != "" && state.Uses(text, name) {
			list = append(list, name)
		}
	}
	return list
}

// open reports that a statement is pending and no Parse of it is on its way.
func (l *Late) open(name string) bool {
	if _, ok := l.pending[name]; !ok {
		return false
	}
	l.settle()
	return !slices.Contains(l.sent, name)
}

// settle forgets which Parses have been answered.
func (l *Late) settle() {
	if n := len(l.sent) - l.tracker.LateOutstanding(); n > 0 {
		l.sent = l.sent[n:]
	}
}

// hides reports whether a frame of the server, of that type, may be the answer to a Parse of ours.
func (l *Late) hides(typ byte) bool {
	return l != nil && l.tracker.Hides(typ)
}

// hide reports whether it is, of a frame that is about to be counted.
func (l *Late) hide(typ byte) bool {
	if !l.hides(typ) {
		return false
	}
	l.settle()
	if typ == '1' && len(l.sent) > 0 {
		delete(l.pending, l.sent[0])
	}
	return true
}
