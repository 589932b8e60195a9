package typemap

import (
	"bytes"
	"encoding/binary"
)

// body walks the body of a frame. Once it is bad it stays so, and returns nothing.
type body struct {
	b   []byte
	at  int
	bad bool
}

// take returns the next n bytes, in place.
func (w *body) take(n int) []byte {
	if w.bad || n < 0 || n > len(w.b)-w.at {
		w.bad = true
		return nil
	}
	p := w.b[w.at : w.at+n : w.at+n]
	w.at += n
	return p
}

func (w *body) byte() byte {
	if p := w.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (w *body) int16() int16 {
	if p := w.take(2); p != nil {
		return int16(binary.BigEndian.Uint16(p))
	}
	return 0
}

func (w *body) int32() int32 {
	if p := w.take(4); p != nil {
		return int32(binary.BigEndian.Uint32(p))
	}
	return 0
}

// count is an int16 that counts, as unsigned.
func (w *body) count() int { return int(uint16(w.int16())) }

// text returns bytes up to a NUL, without it.
func (w *body) text() []byte {
	if w.bad {
		return nil
	}
	i := bytes.IndexByte(w.b[w.at:], 0)
	if i < 0 {
		w.bad = true
		return nil
	}
	p := w.b[w.at : w.at+i]
	w.at += i + 1
	return p
}

// value returns a value with its length in front; nil for NULL, which null tells.
func (w *body) value() (v []byte, null bool) {
	n := w.int32()
	if n == -1 {
		return nil, true
	}
	return w.take(int(n)), false
}
