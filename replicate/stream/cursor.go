package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"crossfade/internal/base/pg"
)

// ErrMalformed is wrapped by every error about bytes that are no message of the
// logical replication protocol.
var ErrMalformed = errors.New("malformed replication message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// cursor reads big-endian fields from p. After the first read past the end it
// is bad, and every further read gives zero: one check at the end suffices
// wherever no length depends on what was read.
type cursor struct {
	p   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.p) {
		c.bad, c.p = true, nil
		return nil
	}
	b := c.p[:n:n]
	c.p = c.p[n:]
	return b
}

func (c *cursor) uint8() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) uint64() uint64 {
	if b := c.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (c *cursor) lsn() pg.LSN { return pg.LSN(c.uint64()) }

// cstring reads up to the next zero byte and past it. The result is a copy.
func (c *cursor) cstring() string {
	i := bytes.IndexByte(c.p, 0)
	if i < 0 {
		c.bad, c.p = true, nil
		return ""
	}
	return string(c.take(i + 1)[:i])
}
