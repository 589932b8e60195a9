// Package walk steps over the fields of a message that came from outside.
//
// # Invariants
//
//   - No step panics or takes memory, whatever the bytes are: what a step returns is a part of them.
//   - The first step beyond the end makes a walk bad, and every further step returns zero: one look at
//     Bad at the end suffices wherever no bound depends on what was read.
package walk

import (
	"bytes"
	"encoding/binary"
)

// Bytes is a walk over fields in network byte order.
type Bytes struct {
	Rest []byte // what is ahead
	Bad  bool   // a step led beyond the end
}

// Take returns the next n bytes, in place.
func (w *Bytes) Take(n int) []byte {
	if w.Bad || n < 0 || n > len(w.Rest) {
		w.Bad = true
		return nil
	}
	b := w.Rest[:n:n]
	w.Rest = w.Rest[n:]
	return b
}

// Byte returns the next byte.
func (w *Bytes) Byte() byte {
	if b := w.Take(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint16 returns the next two bytes as a number.
func (w *Bytes) Uint16() uint16 {
	if b := w.Take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// Uint32 returns the next four bytes as a number.
func (w *Bytes) Uint32() uint32 {
	if b := w.Take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Uint64 returns the next eight bytes as a number.
func (w *Bytes) Uint64() uint64 {
	if b := w.Take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Count returns the next two bytes as what they count.
func (w *Bytes) Count() int { return int(w.Uint16()) }

// Text returns the bytes up to the next NUL, in place, and steps past it.
func (w *Bytes) Text() []byte {
	if w.Bad {
		return nil
	}
	n := bytes.IndexByte(w.Rest, 0)
	if n < 0 {
		w.Bad = true
		return nil
	}
	return w.Take(n + 1)[:n]
}

// Value returns a value that has its length in front of it, in place; null tells a length of -1.
func (w *Bytes) Value() (v []byte, null bool) {
	n := int32(w.Uint32())
	if n == -1 {
		return nil, true
	}
	return w.Take(int(n)), false
}
