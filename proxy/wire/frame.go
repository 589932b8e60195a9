package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// DefaultMaxBody is the frame limit for log-in and replay, where no message of an honest peer is
// large. In bytes.
const DefaultMaxBody = 1 << 20

// readBuffer is enough for every message of a usual log-in in one read.
const readBuffer = 4096

// Frame is one message without its length word.
type Frame struct {
	Type byte
	Body []byte
}

// Reader reads frames one at a time. It serves log-in, probes and replay; the relay does not use
// it, since it forwards bytes without regard to frames. It may read ahead: Buffered has what it
// read and did not return. Not safe for concurrent use.
type Reader struct {
	r        io.Reader
	max      int
	buf      []byte
	from, to int
}

// NewReader reads frames whose body has at most maxBody bytes (DefaultMaxBody when 0 or less).
func NewReader(r io.Reader, maxBody int) *Reader {
	if maxBody <= 0 {
		maxBody = DefaultMaxBody
	}
	return &Reader{r: r, max: maxBody}
}

// Next returns the next frame. Its body is valid until the next call. The announced length is
// checked against the limit before memory is taken. io.EOF means that the peer closed between two
// frames. After an error of the underlying reader (a deadline, say) nothing is lost and Next may be
// called again.
func (r *Reader) Next() (Frame, error) {
	if err := r.fill(HeadLen); err != nil {
		return Frame{}, err
	}
	typ := r.buf[r.from]
	n, err := bodyLength(r.buf[r.from:], r.max)
	if err != nil {
		return Frame{}, err
	}
	total := HeadLen + n
	if err := r.fill(total); err != nil {
		return Frame{}, noEOF(err)
	}
	body := r.buf[r.from+HeadLen : r.from+total : r.from+total]
	r.from += total
	return Frame{Type: typ, Body: body}, nil
}

// bodyLength is the length of a frame's body by its header, if that is within the limit.
func bodyLength(head []byte, limit int) (int, error) {
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || int64(n)-4 > int64(limit) {
		return 0, fmt.Errorf("%w: type %q announces a length of %d, the limit is %d", ErrMalformed, head[0], n, limit+4)
	}
	return int(n) - 4, nil
}

// Buffered returns the bytes that were read after the last frame. They are valid until the next
// call of Next.
func (r *Reader) Buffered() []byte { return r.buf[r.from:r.to] }

func (r *Reader) fill(n int) error {
	if r.to-r.from >= n {
		return nil
	}
	if r.from+n > len(r.buf) {
		buf := r.buf
		if n > len(buf) {
			// Grown by doubling as bytes arrive, so that a peer which only announces gets no
			// memory.
			buf = make([]byte, max(readBuffer, min(n, 2*len(buf))))
		}
		r.to = copy(buf, r.buf[r.from:r.to])
		r.from, r.buf = 0, buf
	}
	for r.to-r.from < n {
		if r.to == len(r.buf) {
			buf := make([]byte, min(n, 2*len(r.buf)))
			r.to = copy(buf, r.buf[r.from:r.to])
			r.from, r.buf = 0, buf
		}
		m, err := r.r.Read(r.buf[r.to:])
		r.to += m
		if err != nil && r.to-r.from < n {
			if err == io.EOF && r.to > r.from {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// ReadFrame reads exactly one frame and never a byte more, for a stream that something else goes on
// reading. The body is own memory.
func ReadFrame(r io.Reader, maxBody int) (Frame, error) {
	var head [HeadLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	n, err := bodyLength(head[:], maxBody)
	if err != nil {
		return Frame{}, err
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return Frame{}, noEOF(err)
	}
	return Frame{Type: head[0], Body: body}, nil
}
