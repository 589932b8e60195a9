package typemap

import (
	"encoding/binary"
	"strconv"

	"crossfade/internal/base/walk"
)

// direction says which way a value goes.
type direction bool

const (
	toClient direction = true
	toServer direction = false
)

// number translates the number at the head of b in place, and returns the server's.
func (m *Map) number(b []byte, to direction) uint32 {
	oid := binary.BigEndian.Uint32(b)
	if to == toClient {
		binary.BigEndian.PutUint32(b, m.ToClient(oid))
		return oid
	}
	server := m.ToServer(oid)
	binary.BigEndian.PutUint32(b, server)
	return server
}

// numbers translates those of a counted list in place, and returns the server's.
func (m *Map) numbers(w *walk.Bytes, to direction) (list []uint32) {
	for n := w.Count(); n > 0 && len(w.Rest) >= 4; n-- {
		list = append(list, m.number(w.Take(4), to))
	}
	return list
}

// value translates in place the numbers that a binary value of a type, by the server's number,
// holds. The formats are those of array_send, record_send and range_send (arrayfuncs.c, rowtypes.c,
// rangetypes.c). From the first byte of another form on, the value is left unchanged.
func (m *Map) value(typ uint32, v []byte, to direction, depth int) {
	if depth > maxDepth {
		return
	}
	switch typ {
	case recordOID:
		m.composite(v, to, depth)
		return
	case recordArray, anyArray:
		m.array(v, to, depth)
		return
	}
	t := m.here[typ]
	switch t.Kind {
	case KindArray:
		m.array(v, to, depth)
	case KindComposite:
		m.composite(v, to, depth)
	case KindDomain:
		m.value(t.Elem, v, to, depth+1)
	case KindRange:
		m.span(t.Elem, v, to, depth)
	case KindMultirange:
		w := walk.Bytes{Rest: v}
		for n := w.Uint32(); n > 0 && !w.Bad; n-- {
			item, _ := w.Value()
			m.span(t.Elem, item, to, depth)
		}
	}
}

// items translates values of one type, each with its length in front of it.
func (m *Map) items(typ uint32, v []byte, to direction, depth int) {
	for w := (walk.Bytes{Rest: v}); len(w.Rest) > 0 && !w.Bad; {
		item, _ := w.Value()
		m.value(typ, item, to, depth)
	}
}

func (m *Map) array(v []byte, to direction, depth int) {
	const header, perDimension, maxDimensions = 12, 8, 6
	if len(v) < header {
		return
	}
	dims := binary.BigEndian.Uint32(v)
	if dims > maxDimensions {
		return
	}
	elem := m.number(v[8:], to)
	v = v[header:]
	if len(v) < int(dims)*perDimension || !m.carries(elem) {
		return
	}
	m.items(elem, v[int(dims)*perDimension:], to, depth+1)
}

func (m *Map) composite(v []byte, to direction, depth int) {
	w := walk.Bytes{Rest: v}
	for n := w.Uint32(); n > 0 && len(w.Rest) >= 8 && !w.Bad; n-- {
		typ := m.number(w.Take(4), to)
		item, _ := w.Value()
		m.value(typ, item, to, depth+1)
	}
}

// span takes a range: flags and the bounds that it has.
func (m *Map) span(sub uint32, v []byte, to direction, depth int) {
	if len(v) > 0 {
		m.items(sub, v[1:], to, depth+1)
	}
}

// oids translates a binary value of type oid, or of an array or vector of them.
func (m *Map) oids(v []byte, to direction) {
	if len(v) == 4 {
		m.number(v, to)
		return
	}
	const header, perDimension = 12, 8
	if len(v) < header || binary.BigEndian.Uint32(v) != 1 {
		return
	}
	for w := (walk.Bytes{Rest: v[min(header+perDimension, len(v)):]}); len(w.Rest) > 0 && !w.Bad; {
		if item, _ := w.Value(); len(item) == 4 {
			m.number(item, to)
		}
	}
}

// text translates every number in the text of an oid, an array or a vector of them.
// It appends to dst.
func (m *Map) text(dst, v []byte, to direction) []byte {
	for i := 0; i < len(v); {
		if v[i] < '0' || v[i] > '9' {
			dst = append(dst, v[i])
			i++
			continue
		}
		var n uint64
		from := i
		for i < len(v) && v[i] >= '0' && v[i] <= '9' && i-from < 11 {
			n = n*10 + uint64(v[i]-'0')
			i++
		}
		if n > 1<<32-1 {
			dst = append(dst, v[from:i]...)
			continue
		}
		x := m.ToServer(uint32(n))
		if to == toClient {
			x = m.ToClient(uint32(n))
		}
		if x == uint32(n) {
			dst = append(dst, v[from:i]...)
		} else {
			dst = strconv.AppendUint(dst, uint64(x), 10)
		}
	}
	return dst
}
