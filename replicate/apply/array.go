package apply

import (
	"encoding/binary"

	"crossfade/replicate/stream"
)

const oidText = 25

// textArray encodes n values as a one-dimensional text[] in PostgreSQL's binary
// array format, in which elements need no quoting: each is the bytes that the
// source's output function wrote.
func textArray(n int, at func(int) stream.Value) []byte {
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
	b = binary.BigEndian.AppendUint32(b, oidText)
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
