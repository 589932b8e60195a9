package typemap

import (
	"encoding/binary"
	"strconv"
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
		if len(v) < 4 {
			return
		}
		n := binary.BigEndian.Uint32(v)
		for v = v[4:]; n > 0; n-- {
			item, rest, ok := counted(v)
			if !ok {
				return
			}
			m.span(t.Elem, item, to, depth)
			v = rest
		}
	}
}

// counted takes a length and as many bytes; a NULL has none.
func counted(v []byte) (item, rest []byte, ok bool) {
	if len(v) < 4 {
		return nil, nil, false
	}
	n := int32(binary.BigEndian.Uint32(v))
	v = v[4:]
	if n < 0 {
		return nil, v, true
	}
	if int(n) > len(v) {
		return nil, nil, false
	}
	return v[:n], v[n:], true
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
	for v = v[int(dims)*perDimension:]; len(v) > 0; {
		item, rest, ok := counted(v)
		if !ok {
			return
		}
		m.value(elem, item, to, depth+1)
		v = rest
	}
}

func (m *Map) composite(v []byte, to direction, depth int) {
	if len(v) < 4 {
		return
	}
	n := binary.BigEndian.Uint32(v)
	for v = v[4:]; n > 0 && len(v) >= 8; n-- {
		typ := m.number(v, to)
		item, rest, ok := counted(v[4:])
		if !ok {
			return
		}
		m.value(typ, item, to, depth+1)
		v = rest
	}
}

// span takes a range: flags and the bounds that it has.
func (m *Map) span(sub uint32, v []byte, to direction, depth int) {
	if len(v) == 0 {
		return
	}
	for v = v[1:]; len(v) > 0; {
		item, rest, ok := counted(v)
		if !ok {
			return
		}
		m.value(sub, item, to, depth+1)
		v = rest
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
	for v = v[min(header+perDimension, len(v)):]; len(v) > 0; {
		item, rest, ok := counted(v)
		if !ok {
			return
		}
		if len(item) == 4 {
			m.number(item, to)
		}
		v = rest
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
