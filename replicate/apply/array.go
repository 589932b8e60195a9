package apply

import (
	"encoding/binary"

	"crossfade/replicate/stream"
)

const oidText = 25

// valueArray encodes n values as a one-dimensional array in PostgreSQL's binary array format, in
// which elements need no quoting: each is the bytes that the source's output function wrote. The
// element is a type whose binary form is text: text itself, or an enum.
func valueArray(element uint32, n int, at func(int) stream.Value) []byte {
	size := 20
	hasNull := uint32(0)
	for i := range n {
		v := at(i)
		size += 4 + len(v.Data)
		if v.Kind == stream.Null {
			hasNull = 1
		}
	}
	b := make([]byte, 0, size)
	b = binary.BigEndian.AppendUint32(b, 1) // dimensions
	b = binary.BigEndian.AppendUint32(b, hasNull)
	b = binary.BigEndian.AppendUint32(b, element)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = binary.BigEndian.AppendUint32(b, 1) // lower bound
	for i := range n {
		v := at(i)
		if v.Kind == stream.Null {
			b = binary.BigEndian.AppendUint32(b, 0xffffffff)
			continue
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(v.Data)))
		b = append(b, v.Data...)
	}
	return b
}

// records encodes n values as a JSON array of records with one field, v. A value is
// a JSON string, in which three sorts of bytes need an escape.
func records(n int, at func(int) stream.Value) []byte {
	size := 2
	for i := range n {
		size += len(at(i).Data) + len(`{"v":""},`)
	}
	b := append(make([]byte, 0, size+size/8), '[')
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		v := at(i)
		if v.Kind == stream.Null {
			b = append(b, `{"v":null}`...)
			continue
		}
		b = append(b, `{"v":"`...)
		for _, c := range v.Data {
			switch {
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			case c < 0x20:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
			default:
				b = append(b, c)
			}
		}
		b = append(b, `"}`...)
	}
	return append(b, ']')
}

const hexDigits = "0123456789abcdef"
