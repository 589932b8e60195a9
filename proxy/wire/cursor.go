package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// HeadLen is the length of a frame's type and length word, in bytes.
const HeadLen = 5

// Cursor is the place in one direction's byte stream: between two frames, in a header or in a body.
// The zero value is between two frames. After an error it goes no further, and returns it again.
type Cursor struct {
	head  [HeadLen]byte
	seen  uint8  // bytes of head that have been observed
	left  uint32 // bytes of the body still to come
	size  uint32 // length of the body
	first byte   // first byte of the body, once seen
	bad   bool   // head is no header
}

// Between reports that no part of a frame has been observed of which more is to come.
func (c *Cursor) Between() bool { return c.seen == 0 }

// Missing is how many bytes certainly belong to the frame under way.
func (c *Cursor) Missing() int {
	if c.seen < HeadLen {
		return HeadLen - int(c.seen)
	}
	return int(c.left)
}

// Walk steps over p. An error means that the stream does not follow the protocol.
func (c *Cursor) Walk(p []byte) error {
	for len(p) > 0 {
		n, err := c.step(p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// step takes what p has of one frame, at most to its end, and returns how much that is.
func (c *Cursor) step(p []byte) (int, error) {
	n := 0
	if c.seen < HeadLen {
		var err error
		if n, err = c.header(p); err != nil || c.seen < HeadLen {
			return n, err
		}
	}
	n += c.body(p[n:])
	if c.ended() {
		c.next()
	}
	return n, nil
}

// header takes the missing bytes of the header from p and returns how many that were.
func (c *Cursor) header(p []byte) (int, error) {
	n := 0
	if !c.bad {
		n = copy(c.head[c.seen:], p)
		c.seen += uint8(n)
		if c.seen < HeadLen {
			return n, nil
		}
	}
	length := binary.BigEndian.Uint32(c.head[1:])
	if c.bad = length < 4 || length > math.MaxInt32; c.bad {
		c.seen = HeadLen - 1 // which is never complete
		return n, fmt.Errorf("%w: type %q announces a length of %d", ErrMalformed, c.head[0], length)
	}
	c.size = length - 4
	c.left = c.size
	return n, nil
}

// body takes the bytes of p that belong to the body and returns how many that were. The header is
// complete.
func (c *Cursor) body(p []byte) int {
	n := len(p)
	if uint64(n) > uint64(c.left) {
		n = int(c.left)
	}
	if n > 0 && c.left == c.size {
		c.first = p[0]
	}
	c.left -= uint32(n)
	return n
}

// ended reports that the frame under way is complete.
func (c *Cursor) ended() bool { return c.seen == HeadLen && c.left == 0 }

// next makes ready for the next frame.
func (c *Cursor) next() { *c = Cursor{} }

// Cut takes apart the frame that p begins with. ok is false where p does not hold all of it, or is
// not one.
func Cut(p []byte) (typ byte, body, rest []byte, ok bool) {
	if len(p) < HeadLen {
		return 0, nil, nil, false
	}
	n := uint64(binary.BigEndian.Uint32(p[1:])) + 1
	if n < HeadLen || n > uint64(len(p)) {
		return 0, nil, nil, false
	}
	return p[0], p[HeadLen:n], p[n:], true
}

// bulk is the length of the whole frames of rows or COPY data that p begins with, of two types,
// which change nothing.
func bulk(p []byte, a, b byte) int {
	n := 0
	for n < len(p) && (p[n] == a || p[n] == b) {
		_, _, rest, ok := Cut(p[n:])
		if !ok {
			break
		}
		n = len(p) - len(rest)
	}
	return n
}
