package typemap

import (
	"bytes"
	"encoding/binary"
	"slices"

	"crossfade/internal/base/walk"
)

// ClientHolds says how large a frame of that type may be to be translated.
func (s *Session) ClientHolds(typ byte) int {
	switch typ {
	case 'P', 'B', 'D', 'E', 'C', 'Q':
		return MaxHeld
	}
	return 0
}

// ClientFrame translates a frame, in place where it can.
func (s *Session) ClientFrame(frame []byte, queued bool) []byte {
	w := &walk.Bytes{Rest: frame[headLen:]}
	queued = queued || s.lost // then it is not known what the server passes over
	switch frame[0] {
	case 'Q':
		return s.query(frame, w.Text(), queued)
	case 'P':
		s.parse(w, queued)
	case 'B':
		return s.bind(frame, w, queued)
	case 'D', 'C':
		s.about(frame[0], w, queued)
	case 'E':
		s.owe(queued, request{kind: 'E', p: s.portals[string(w.Text())]})
	}
	return frame
}

// ClientLarge takes a frame that was too large: which statement it concerns is not known.
func (s *Session) ClientLarge(typ byte, queued bool) {
	switch typ {
	case 'Q':
		s.query(nil, nil, queued)
	case 'P':
		s.owe(queued, request{kind: 'P', st: &statement{}})
	case 'B':
		s.owe(queued, request{kind: 'B', p: &portal{unknown: true}})
	case 'D', 'C', 'E':
		s.Lost()
	}
}

// owe notes a request that the server is to answer.
func (s *Session) owe(queued bool, r request) {
	if queued && !s.lost {
		s.owed = append(s.owed, r)
	}
}

// query: the simple protocol. It ends the unnamed statement and the unnamed portal. Numbers of
// types that a client has put into the text are translated, since there is no other place for them;
// in a statement that is kept they would be wrong when the session moves back.
func (s *Session) query(frame, text []byte, queued bool) []byte {
	st := newStatement(text)
	if queued {
		delete(s.statements, "")
		delete(s.portals, "")
		s.owe(true, request{kind: 'Q', st: st})
	}
	var edits []Edit
	for _, l := range st.query.literals {
		old := text[l.from:l.to]
		if now := s.m.text(nil, old, toServer); !bytes.Equal(now, old) && !prepares(text) {
			edits = append(edits, Edit{At: headLen + l.from, Old: len(old), Text: now, Bare: true})
		}
	}
	return Replace(frame, edits)
}

// prepares reports whether a text makes statements that are kept.
func prepares(text []byte) bool { return bytes.Contains(bytes.ToLower(text), []byte("prepare")) }

func (s *Session) parse(w *walk.Bytes, queued bool) {
	name, text := string(w.Text()), w.Text()
	st := newStatement(text)
	st.params = s.m.numbers(w, toServer)
	if queued {
		s.owe(true, request{kind: 'P', name: name, st: st, wasSt: s.statements[name]})
		s.statements[name] = st
	}
}

// about is a Describe or a Close.
func (s *Session) about(kind byte, w *walk.Bytes, queued bool) {
	if !queued {
		return
	}
	r := request{kind: kind, sub: w.Byte()}
	r.name = string(w.Text())
	if r.sub == 'S' {
		r.st = s.statements[r.name]
		r.wasSt = r.st
	} else {
		r.p = s.portals[r.name]
		r.wasP = r.p
	}
	s.owe(true, r)
	switch {
	case kind == 'D':
	case r.sub == 'S':
		delete(s.statements, r.name)
	default:
		delete(s.portals, r.name)
	}
}

// bind translates parameters in place, or returns another frame where the length of one changes.
func (s *Session) bind(frame []byte, w *walk.Bytes, queued bool) []byte {
	name := string(w.Text())
	st := s.statements[string(w.Text())]
	formats := readFormats(w, make([]int16, 0, 8))
	var edits []Edit
	n := w.Count()
	for i := 0; i < n && !w.Bad; i++ {
		at := len(frame) - len(w.Rest)
		v, null := w.Value()
		if null || w.Bad || st == nil {
			continue
		}
		if text, ok := s.param(st, i, v, formatOf(formats, i) == 1); ok {
			edits = append(edits, Edit{At: at, Old: len(v), Text: text})
		}
	}
	p := &portal{st: st, formats: readFormats(w, nil)}
	p.unknown = w.Bad || st == nil
	if queued {
		s.owe(true, request{kind: 'B', name: name, p: p, wasP: s.portals[name]})
		if len(s.portals) >= maxPortals {
			clear(s.portals)
		}
		s.portals[name] = p
	}
	return Replace(frame, edits)
}

func readFormats(w *walk.Bytes, list []int16) []int16 {
	for n := w.Count(); n > 0 && !w.Bad; n-- {
		list = append(list, int16(w.Uint16()))
	}
	return list
}

func formatOf(formats []int16, i int) int16 {
	switch {
	case len(formats) == 1:
		return formats[0]
	case i < len(formats):
		return formats[i]
	}
	return 0
}

// param translates one parameter in place; where that cannot be, it returns the text
// to put in its place.
func (s *Session) param(st *statement, i int, v []byte, binaryFormat bool) (text []byte, changed bool) {
	if slices.Contains(st.query.params, i) {
		if !binaryFormat {
			return s.m.text(nil, v, toServer), true
		}
		s.oid(v)
		return nil, false
	}
	if binaryFormat && i < len(st.params) && s.m.carries(st.params[i]) {
		s.m.value(st.params[i], v, toServer, 0)
	}
	return nil, false
}

// oid translates a number of a type that came as an oid, an int4, an int8 or an array.
func (s *Session) oid(v []byte) {
	if len(v) == 8 && binary.BigEndian.Uint32(v) == 0 {
		v = v[4:]
	}
	s.m.oids(v, toServer)
}

// Edit is a value of a frame that is replaced by one of another length. At is the position of its
// length in the frame, or of the value itself if it has no length in front of it.
type Edit struct {
	At, Old int
	Text    []byte
	Bare    bool
}

// Replace makes the edits, which are in order.
func Replace(frame []byte, edits []Edit) []byte {
	if len(edits) == 0 {
		return frame
	}
	out := make([]byte, 0, len(frame)+16*len(edits))
	at := 0
	for _, e := range edits {
		out = append(out, frame[at:e.At]...)
		at = e.At + e.Old
		if !e.Bare {
			out = binary.BigEndian.AppendUint32(out, uint32(len(e.Text)))
			at += 4
		}
		out = append(out, e.Text...)
	}
	out = append(out, frame[at:]...)
	binary.BigEndian.PutUint32(out[1:], uint32(len(out)-1))
	return out
}
