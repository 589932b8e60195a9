package typemap

import (
	"bytes"
	"encoding/binary"

	"crossfade/internal/base/walk"
)

// clientSide is a Session as the actor of what the client sends. Called with mu
// locked.
type clientSide Session

func (c *clientSide) holds(typ byte) bool {
	switch typ {
	case 'P', 'B', 'D', 'E', 'C', 'Q':
		return true
	}
	return false
}

// passing takes a frame that is not translated, or that was too large to be.
func (c *clientSide) passing(typ byte) {
	switch typ {
	case 'S':
		if c.copying && !c.ended() {
			return // the server passes over it
		}
		c.failed = false
		c.push(expect{kind: 'S'})
	case 'F':
		c.push(expect{kind: 'F'})
	case 'c', 'f':
		c.push(expect{kind: 'c'})
	case 'Q':
		c.query(nil, nil)
	case 'P': // too large: which statement it concerns is not known
		c.add(expect{kind: 'P', st: &statement{}})
	case 'B':
		c.add(expect{kind: 'B', p: &portal{unknown: true}})
	case 'D', 'C', 'E':
		(*serverSide)(c).lose()
	}
}

func (c *clientSide) whole(frame []byte) []byte {
	w := &walk.Bytes{Rest: frame[headLen:]}
	switch frame[0] {
	case 'Q':
		return c.query(frame, w.Text())
	case 'P':
		c.parse(w)
	case 'B':
		return c.bind(frame, w)
	case 'D', 'C':
		c.about(frame[0], w)
	case 'E':
		name := w.Text()
		c.add(expect{kind: 'E', p: c.portals[string(name)]})
	}
	return frame
}

// ended reports that the client has ended the COPY data that the server takes.
func (c *clientSide) ended() bool {
	for _, e := range c.queue.rest() {
		if e.kind == 'c' {
			return true
		}
	}
	return false
}

func (c *clientSide) push(e expect) {
	if !c.lost {
		c.queue.push(e)
	}
}

// add is push for what the server passes over after an error.
func (c *clientSide) add(e expect) bool {
	if c.failed {
		return false
	}
	c.push(e)
	return true
}

// query: the simple protocol. It ends the unnamed statement and the unnamed portal.
// Numbers of types that a client has put into the text are translated, since there
// is no other place for them; in a statement that is kept they would be wrong when
// the session moves back.
func (c *clientSide) query(frame, text []byte) []byte {
	delete(c.statements, "")
	delete(c.portals, "")
	st := newStatement(text)
	c.push(expect{kind: 'Q', st: st})
	var edits []edit
	for _, l := range st.query.literals {
		old := text[l.from:l.to]
		if now := c.m.text(nil, old, toServer); !bytes.Equal(now, old) && !prepares(text) {
			edits = append(edits, edit{at: headLen + l.from, old: len(old), text: now, bare: true})
		}
	}
	return replace(frame, edits)
}

// prepares reports whether a text makes statements that are kept.
func prepares(text []byte) bool { return bytes.Contains(bytes.ToLower(text), []byte("prepare")) }

func (c *clientSide) parse(w *walk.Bytes) {
	name, text := string(w.Text()), w.Text()
	st := newStatement(text)
	n := w.Count()
	if !w.Bad && n > 0 {
		st.params = make([]uint32, 0, n)
	}
	for range n {
		p := w.Take(4)
		if p == nil {
			break
		}
		st.params = append(st.params, c.m.number(p, toServer))
	}
	if c.add(expect{kind: 'P', name: name, st: st, wasSt: c.statements[name]}) {
		c.statements[name] = st
	}
}

// about is a Describe or a Close.
func (c *clientSide) about(kind byte, w *walk.Bytes) {
	e := expect{kind: kind, sub: w.Byte()}
	e.name = string(w.Text())
	if e.sub == 'S' {
		e.st = c.statements[e.name]
		e.wasSt = e.st
	} else {
		e.p = c.portals[e.name]
		e.wasP = e.p
	}
	if !c.add(e) || kind != 'C' {
		return
	}
	if e.sub == 'S' {
		delete(c.statements, e.name)
	} else {
		delete(c.portals, e.name)
	}
}

// bind translates parameters in place, or returns another frame where the length of
// one changes.
func (c *clientSide) bind(frame []byte, w *walk.Bytes) []byte {
	name := string(w.Text())
	st := c.statements[string(w.Text())]
	formats := make([]int16, 0, 8)
	for range w.Count() {
		if w.Bad {
			break
		}
		formats = append(formats, int16(w.Uint16()))
	}
	var edits []edit
	n := w.Count()
	for i := 0; i < n && !w.Bad; i++ {
		at := len(frame) - len(w.Rest)
		v, null := w.Value()
		if null || w.Bad || st == nil {
			continue
		}
		if text, ok := c.param(st, i, v, formatOf(formats, i) == 1); ok {
			edits = append(edits, edit{at: at, old: len(v), text: text})
		}
	}
	p := &portal{st: st}
	for range w.Count() {
		if w.Bad {
			break
		}
		p.formats = append(p.formats, int16(w.Uint16()))
	}
	p.unknown = w.Bad || st == nil
	if c.add(expect{kind: 'B', name: name, p: p, wasP: c.portals[name]}) {
		if len(c.portals) >= maxPortals {
			clear(c.portals)
		}
		c.portals[name] = p
	}
	return replace(frame, edits)
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
func (c *clientSide) param(st *statement, i int, v []byte, binaryFormat bool) (text []byte, changed bool) {
	if st.query.compares(i) {
		if !binaryFormat {
			return c.m.text(nil, v, toServer), true
		}
		c.oid(v)
		return nil, false
	}
	if binaryFormat && i < len(st.params) && c.m.carries(st.params[i]) {
		c.m.value(st.params[i], v, toServer, 0)
	}
	return nil, false
}

// oid translates a number of a type that came as an oid, an int4, an int8 or an array.
func (c *clientSide) oid(v []byte) {
	if len(v) == 8 && binary.BigEndian.Uint32(v) == 0 {
		v = v[4:]
	}
	c.m.oids(v, toServer)
}

// edit is a value of a frame that is replaced by one of another length. at is the position of its
// length in the frame, or of the value itself if it has no length.
type edit struct {
	at, old int
	text    []byte
	bare    bool
}

// replace makes the edits, which are in order.
func replace(frame []byte, edits []edit) []byte {
	if len(edits) == 0 {
		return frame
	}
	out := make([]byte, 0, len(frame)+16*len(edits))
	at := 0
	for _, e := range edits {
		out = append(out, frame[at:e.at]...)
		at = e.at + e.old
		if !e.bare {
			out = binary.BigEndian.AppendUint32(out, uint32(len(e.text)))
			at += 4
		}
		out = append(out, e.text...)
	}
	out = append(out, frame[at:]...)
	binary.BigEndian.PutUint32(out[1:], uint32(len(out)-1))
	return out
}
