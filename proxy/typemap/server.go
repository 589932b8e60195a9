package typemap

import "crossfade/internal/base/walk"

// ServerHolds says how large a frame of that type may be to be translated.
func (s *Session) ServerHolds(typ byte) int {
	if typ == 'T' || typ == 't' || typ == 'D' && s.translates() {
		return MaxHeld
	}
	return 0
}

// translates reports whether the rows that come now have anything to be changed.
func (s *Session) translates() bool {
	if r := s.first(); r != nil && r.kind == 'E' && !r.begun {
		r.begun = true
		s.rows = s.result(r.p)
	}
	return len(s.rows) > 0
}

// ServerFrame translates a frame, in place where it can.
func (s *Session) ServerFrame(frame []byte) []byte {
	w := &walk.Bytes{Rest: frame[headLen:]}
	switch frame[0] {
	case 't':
		s.parameters(w)
	case 'T':
		s.columns(w)
	case 'D':
		return s.row(frame, w)
	}
	return frame
}

// parameters is a ParameterDescription.
func (s *Session) parameters(w *walk.Bytes) {
	list := s.m.numbers(w, toClient)
	if r := s.first(); r != nil && r.kind == 'D' && r.st != nil {
		r.st.params = list
	}
}

// columns is a RowDescription.
func (s *Session) columns(w *walk.Bytes) {
	var cols []Column
	for range w.Count() {
		w.Text()
		table := w.Uint32()
		attr := w.Uint16()
		p := w.Take(4)
		if p == nil {
			break
		}
		cols = append(cols, Column{Type: s.m.number(p, toClient), Table: table, Attr: attr})
		w.Take(8)
	}
	switch r := s.first(); {
	case r == nil:
	case r.kind == 'Q':
		s.rows = s.cells(cols, nil, r.st.query)
	case r.kind == 'D':
		r.describe(cols)
	}
}

// describe notes the answer to a Describe; no columns mean that no rows are returned.
func (r *request) describe(cols []Column) {
	r.begun = true
	if r.p != nil {
		r.p.cols, r.p.known = cols, true
	}
	if r.st != nil {
		r.st.cols = cols
	}
}

// row is a DataRow with something in it that may have to be translated.
func (s *Session) row(frame []byte, w *walk.Bytes) []byte {
	n := w.Count()
	var edits []Edit
	next := 0
	for i := 0; i < n && !w.Bad && next < len(s.rows); i++ {
		at := len(frame) - len(w.Rest)
		v, null := w.Value()
		c := s.rows[next]
		if c.at != i {
			continue
		}
		next++
		switch {
		case null || w.Bad:
		case c.oids && c.binary:
			s.m.oids(v, toClient)
		case c.oids:
			edits = append(edits, Edit{At: at, Old: len(v), Text: s.m.text(nil, v, toClient)})
		default:
			s.m.value(c.typ, v, toClient, 0)
		}
	}
	return Replace(frame, edits)
}
