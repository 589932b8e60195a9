package rewrite

import (
	"bytes"
	"slices"

	"crossfade/proxy/state"
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// Late are prepared statements that the client has made and that the server of the
// moment does not have, since they could not be parsed when the session was moved: the
// schema that they name was dropped, or a function of the application chooses it. Each
// is parsed when the client first uses it: a Parse goes ahead of its message, in the
// same unit, so that an error is the answer that the client's own server would
// have given. A session that has none of them never comes here. Called with the session's lock held.
type Late struct {
	pending map[string]state.LateStatement
	sent    []string // names of those whose Parse is not answered, in order

	up, down Spot
	head     []byte // the client's frame under way, until it is known which statement it concerns
	passing  bool   // it is
	hide     bool   // the frame of the server under way is not for the client
	out, in  []byte // what the last calls returned
}

// maxLateHead is how much of a frame is held until it is known which statement it is
// about, in bytes: a name has 63, and the text of an EXECUTE is short.
const maxLateHead = 64 << 10

// NewLate returns nil where there are none. numbers translates those of types that
// clients know, as the server's numbers that the frames have will be.
func NewLate(list map[string]state.LateStatement, numbers *typemap.Map) *Late {
	if len(list) == 0 {
		return nil
	}
	l := &Late{pending: map[string]state.LateStatement{}}
	for name, st := range list {
		if p, err := wire.DecodeParse(st.Parse[HeadLen:]); err == nil && numbers != nil {
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
		if s.Late == nil {
			s.Late = map[string]state.Statement{}
		}
		s.Late[name] = st.Statement
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

// Client observes p and returns what the server is to get. The result is valid until
// the next call.
func (l *Late) Client(t *wire.Tracker, p []byte) ([]byte, error) {
	if len(l.pending) == 0 && len(l.head) == 0 {
		l.up.Walk(p)
		return p, t.Client(p)
	}
	l.out = l.out[:0]
	for len(p) > 0 {
		n := l.up.step(p)
		if !l.passing {
			l.head = append(l.head, p[:n]...)
			l.passing = l.about(t, l.up.Between())
		} else {
			l.out = append(l.out, p[:n]...)
		}
		if err := t.Client(p[:n]); err != nil {
			return nil, err
		}
		p = p[n:]
		if l.up.Between() {
			l.passing = false
		}
	}
	return l.out, nil
}

// about decides about the frame whose beginning is in head, and reports whether it could: head has
// then been appended to out, after what must precede it.
func (l *Late) about(t *wire.Tracker, whole bool) bool {
	done := whole || len(l.head) >= maxLateHead
	switch l.head[0] {
	case 'B':
		rest := l.head[min(HeadLen, len(l.head)):]
		if _, statement, ok := bytes.Cut(rest, []byte{0}); ok {
			if name, _, ok := bytes.Cut(statement, []byte{0}); ok {
				l.need(t, string(name))
				done = true
			}
		}
	case 'D', 'C':
		if whole && len(l.head) > HeadLen && l.head[HeadLen] == 'S' {
			name := string(bytes.TrimSuffix(l.head[HeadLen+1:], []byte{0}))
			if l.head[0] == 'C' {
				delete(l.pending, name)
			} else {
				l.need(t, name)
			}
		}
	case 'P':
		if whole {
			name, text, _ := bytes.Cut(l.head[HeadLen:], []byte{0})
			text, _, _ = bytes.Cut(text, []byte{0})
			if len(name) > 0 {
				l.need(t, string(name)) // the server must say that there is one
			}
			for _, used := range l.used(text) {
				l.need(t, used)
			}
		}
	case 'Q':
		if whole {
			for _, used := range l.used(bytes.TrimSuffix(l.head[HeadLen:], []byte{0})) {
				if l.open(used) && t.LateAlone() {
					l.out = wire.AppendSync(append(l.out, l.pending[used].Parse...))
					l.sent = append(l.sent, used)
				}
			}
		}
	default:
		done = true
	}
	if done {
		l.out = append(l.out, l.head...)
		l.head = l.head[:0]
	}
	return done
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
	return !slices.Contains(l.sent, name)
}

// need puts the Parse of a pending statement ahead of the frame.
func (l *Late) need(t *wire.Tracker, name string) {
	if l.open(name) && t.Late() {
		l.out = append(l.out, l.pending[name].Parse...)
		l.sent = append(l.sent, name)
	}
}

// Server observes p and returns what the client is to get. The result is valid until
// the next call.
func (l *Late) Server(t *wire.Tracker, p []byte) ([]byte, error) {
	if len(l.sent) == 0 && !l.hide {
		l.down.Walk(p)
		return p, t.Server(p)
	}
	l.in = l.in[:0]
	for len(p) > 0 {
		if l.down.Between() {
			if l.hide = t.Hides(p[0]); l.hide && p[0] == '1' && len(l.sent) > 0 {
				delete(l.pending, l.sent[0])
			}
		}
		n := l.down.step(p)
		if err := t.Server(p[:n]); err != nil {
			return nil, err
		}
		if !l.hide {
			l.in = append(l.in, p[:n]...)
		}
		p = p[n:]
		if l.down.Between() {
			l.hide = false
			if n := len(l.sent) - t.LateOutstanding(); n > 0 {
				l.sent = l.sent[n:]
			}
		}
	}
	return l.in, nil
}
