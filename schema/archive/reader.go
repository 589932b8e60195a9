package archive

import (
	"fmt"
	"io"
	"math"
	"strconv"
)

// archiveReader reads the primitive values of an archive. The first error
// sticks, and everything that is read after it is zero.
type archiveReader struct {
	data       []byte
	pos        int
	intSize    int
	offsetSize int
	err        error
}

func (r *archiveReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// take returns the next n bytes, which stay the archive's.
func (r *archiveReader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.data)-r.pos {
		r.err = io.ErrUnexpectedEOF
		return nil
	}
	b := r.data[r.pos : r.pos+n]
	r.pos += n
	return b
}

func (r *archiveReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// int reads a sign byte and a magnitude, least significant byte first.
func (r *archiveReader) int() int {
	sign := r.byte()
	var v uint64
	for i, b := range r.take(r.intSize) {
		v |= uint64(b) << (8 * i)
	}
	if v > math.MaxInt32 {
		r.fail("integer %d is out of range", v)
		return 0
	}
	if sign != 0 {
		return -int(v)
	}
	return int(v)
}

// string reads a length and as many bytes; a negative length is NULL.
func (r *archiveReader) string() string {
	n := r.int()
	if n < 0 {
		return ""
	}
	return string(r.take(n))
}

// oid reads an oid, which archives hold as decimal text.
func (r *archiveReader) oid() uint32 {
	s := r.string()
	if r.err != nil {
		return 0
	}
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		r.fail("oid %.20q is not a number", s)
	}
	return uint32(v)
}

// dependencies reads dump ids, held as decimal text, up to a NULL.
func (r *archiveReader) dependencies() []int {
	var ids []int
	for r.err == nil {
		n := r.int()
		if n < 0 || r.err != nil {
			break
		}
		s := string(r.take(n))
		if r.err != nil {
			break
		}
		id, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			r.fail("dependency %.20q is not a number", s)
			break
		}
		ids = append(ids, int(id))
	}
	return ids
}
