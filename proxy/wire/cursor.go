package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// cursor is the place in one direction's byte stream: between two frames, in a header or in a body.
type cursor struct {
	head  [5]byte
	seen  uint8  // bytes of head that have been observed
	left  uint32 // bytes of the body still to come
	size  uint32 // length of the body
	first byte   // first byte of the body, once seen
}

// partial reports that a part of a frame has been observed, but not all of it.
func (c *cursor) partial() bool { return c.seen > 0 }

// header takes the missing header bytes from p. done means that the header is complete; it may be with an empty body.
func (c *cursor) header(p []byte) (rest []byte, done bool, err error) {
	n := copy(c.head[c.seen:], p)
	c.seen += uint8(n)
	if c.seen < 5 {
		return p[n:], false, nil
	}
	length := binary.BigEndian.Uint32(c.head[1:])
	if length < 4 || length > math.MaxInt32 {
		return p[n:], false, fmt.Errorf("%w: type %q announces a length of %d", ErrMalformed, c.head[0], length)
	}
	c.size = length - 4
	c.left = c.size
	return p[n:], true, nil
}

// body takes the bytes of p that belong to the body.
func (c *cursor) body(p []byte) (part, rest []byte) {
	n := len(p)
	if uint64(n) > uint64(c.left) {
		n = int(c.left)
	}
	if n > 0 && c.left == c.size {
		c.first = p[0]
	}
	c.left -= uint32(n)
	return p[:n], p[n:]
}

// next makes ready for the next frame.
func (c *cursor) next() { *c = cursor{} }

// wholeFrame is the length of the frame at the start of p, if it is there as a whole and has one of two types; else 0.
func wholeFrame(p []byte, a, b byte) int {
	if len(p) < 5 || p[0] != a && p[0] != b {
		return 0
	}
	n := uint64(binary.BigEndian.Uint32(p[1:]))
	if n < 4 || n >= uint64(len(p)) {
		return 0
	}
	return int(n) + 1
}

// skipData steps over whole frames of rows or COPY data, which change nothing.
func skipData(p []byte, a, b byte) []byte {
	for {
		n := wholeFrame(p, a, b)
		if n == 0 {
			return p
		}
		p = p[n:]
	}
}
