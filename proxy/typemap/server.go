package typemap

import "crossfade/internal/base/walk"

// serverSide is a Session as the actor of what the server sends. Called with mu
// locked.
type serverSide Session

func (s *serverSide) holds(typ byte) bool {
	return typ == 'T' || typ == 't' || typ == 'D' && s.translates()
}

// translates reports whether the rows that come now have anything to be changed.
func (s *serverSide) translates() bool {
	if e := s.next(); e != nil && e.kind == 'E' && !e.begun {
		e.begun = true
		s.rows = (*Session)(s).result(e.p)
	}
	return len(s.rows) > 0
}

// next returns the request that the server answers now. Ends of COPY data before it have been
// removed then.
func (s *serverSide) next() *expect {
	for {
		e := s.queue.first()
		if e == nil || e.kind != 'c' {
			return e
		}
		s.queue.pop()
	}
}

// passing takes the answers that say only that something is done.
func (s *serverSide) passing(typ byte) {
	switch typ {
	case '1':
		s.done('P')
	case '2':
		s.done('B')
	case '3':
		s.done('C')
	case 'n':
		s.described(nil, false)
	case 'C', 's', 'I':
		s.completed()
	case 'E':
		s.refused()
	case 'G':
		s.copyIn()
	case 'Z':
		s.ready()
	}
}

func (s *serverSide) whole(frame []byte) []byte {
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

// expected returns what the server answers to now, when that is of the kind.
func (s *serverSide) expected(kind byte) *expect {
	e := s.next()
	if e == nil || e.kind != kind {
		s.lose()
		return nil
	}
	return e
}

func (s *serverSide) lose() {
	s.lost, s.rows, s.queue = true, nil, queue{}
}

func (s *serverSide) done(kind byte) {
	if !s.lost && s.expected(kind) != nil {
		s.queue.pop()
	}
}

// parameters is a ParameterDescription.
func (s *serverSide) parameters(w *walk.Bytes) {
	n := w.Count()
	var list []uint32
	for range n {
		p := w.Take(4)
		if p == nil {
			break
		}
		list = append(list, s.m.number(p, toClient))
	}
	if s.lost {
		return
	}
	if e := s.expected('D'); e != nil && e.st != nil {
		e.st.params = list
	}
}

// columns is a RowDescription.
func (s *serverSide) columns(w *walk.Bytes) {
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
	s.described(cols, true)
}

func (s *serverSide) described(cols []Column, rows bool) {
	if s.lost {
		return
	}
	e := s.next()
	switch {
	case e == nil:
		s.lose()
	case e.kind == 'Q' && rows:
		s.rows = (*Session)(s).cells(cols, nil, e.st.query)
	case e.kind == 'D':
		if e.p != nil {
			e.p.cols, e.p.known = cols, true
		}
		if e.st != nil {
			e.st.cols = cols
		}
		s.queue.pop()
	default:
		s.lose()
	}
}

// completed is the end of a command.
func (s *serverSide) completed() {
	s.copying = false
	s.rows = nil
	if s.lost {
		return
	}
	e := s.next()
	switch {
	case e == nil:
		s.lose()
	case e.kind == 'E':
		s.queue.pop()
	case e.kind != 'Q':
		s.lose()
	}
}

// refused: after an error the server passes over everything up to the next Sync, and what that
// would have made was not made.
func (s *serverSide) refused() {
	s.copying = false
	s.rows = nil
	if s.lost {
		return
	}
	e := s.next()
	if e == nil || e.kind == 'Q' || e.kind == 'F' || e.kind == 'S' {
		return
	}
	rest := s.queue.rest()
	n := 0 // a Query or FunctionCall is passed over too
	for n < len(rest) && rest[n].kind != 'S' {
		n++
	}
	for i := n - 1; i >= 0; i-- {
		s.undo(rest[i])
	}
	s.failed = n == len(rest)
	for range n {
		s.queue.pop()
	}
}

// undo takes back what was noted of a frame that the server passed over.
func (s *serverSide) undo(e expect) {
	switch {
	case e.kind == 'P' || e.kind == 'C' && e.sub == 'S':
		if e.wasSt == nil {
			delete(s.statements, e.name)
		} else {
			s.statements[e.name] = e.wasSt
		}
	case e.kind == 'B' || e.kind == 'C' && e.sub == 'P':
		if e.wasP == nil {
			delete(s.portals, e.name)
		} else {
			s.portals[e.name] = e.wasP
		}
	}
}

// copyIn: a Sync that the client has sent ahead of the end of its data is passed over.
func (s *serverSide) copyIn() {
	s.copying = true
	for i := 0; i < len(s.queue.rest()); {
		e := s.queue.rest()[i]
		if e.kind == 'c' {
			return
		}
		if e.kind == 'S' {
			s.queue.remove(i)
			continue
		}
		i++
	}
}

// ready is the end of a unit.
func (s *serverSide) ready() {
	s.rows = nil
	s.copying = false
	if s.lost {
		return
	}
	e := s.next()
	if e == nil || e.kind != 'S' && e.kind != 'Q' && e.kind != 'F' {
		s.lose()
		return
	}
	s.queue.pop()
}

// row is a DataRow with something in it that may have to be translated.
func (s *serverSide) row(frame []byte, w *walk.Bytes) []byte {
	n := w.Count()
	var edits []edit
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
			edits = append(edits, edit{at: at, old: len(v), text: s.m.text(nil, v, toClient)})
		default:
			s.m.value(c.typ, v, toClient, 0)
		}
	}
	return replace(frame, edits)
}
