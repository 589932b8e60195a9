package pg

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// frameHeader is the type and the length of a message (PostgreSQL documentation 55.7).
	frameHeader = 5
	// smallRead is the buffer of a session that answers questions.
	smallRead = 8 << 10
	// bulkRead is the buffer of one that copies: large enough that a read takes
	// all that the server wrote meanwhile, small enough for a core's cache.
	bulkRead = 128 << 10
	// copyDataType is the type of CopyData.
	copyDataType = 'd'
)

// Frames is between the socket of a session and its driver. It passes the driver no byte after the
// message that the driver is reading, so that between two messages the bytes of a COPY can be taken
// past the driver, which would make a message of each row. It is used by the goroutine that reads.
type Frames struct {
	r      io.Reader
	buf    []byte
	rp, wp int // what was read and not handed out
	left   int // bytes of the message that is being handed out
}

// framesKey is where a driver's connection keeps its Frames.
const framesKey = "crossfade frames"

// FramesOf returns the Frames of a session that Connect opened, else nil.
func FramesOf(conn *pgconn.PgConn) *Frames {
	f, _ := conn.CustomData()[framesKey].(*Frames)
	return f
}

// withFrames makes connections of cfg have Frames. attach is called with one that is open.
func withFrames(cfg *pgconn.Config) (attach func(*pgconn.PgConn)) {
	var last *Frames
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		last = &Frames{r: r}
		return pgproto3.NewFrontend(last, w)
	}
	return func(conn *pgconn.PgConn) { conn.CustomData()[framesKey] = last }
}

// Read gives the driver bytes of one message at most.
func (f *Frames) Read(p []byte) (int, error) {
	if f.left == 0 {
		n, err := f.next(smallRead)
		if err != nil {
			return 0, err
		}
		f.left = n
	}
	if f.rp == f.wp {
		if err := f.fill(smallRead); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.buf[f.rp:min(f.wp, f.rp+f.left)])
	f.rp += n
	f.left -= n
	return n, nil
}

// AppendData appends the contents of the CopyData messages that come next to
// dst, up to its capacity. It returns when dst is full, and with more false when
// a message of another type is next, which the driver is then to read. It must
// not be called while the driver is in the middle of a message.
func (f *Frames) AppendData(dst []byte) (out []byte, more bool, err error) {
	for len(dst) < cap(dst) {
		if f.left == 0 {
			n, err := f.next(bulkRead)
			if err != nil {
				return dst, false, err
			}
			if f.buf[f.rp] != copyDataType {
				return dst, false, nil
			}
			f.rp += frameHeader
			f.left = n - frameHeader
			continue
		}
		if f.rp == f.wp {
			if err := f.fill(bulkRead); err != nil {
				return dst, false, err
			}
		}
		n := min(f.left, f.wp-f.rp, cap(dst)-len(dst))
		dst = append(dst, f.buf[f.rp:f.rp+n]...)
		f.rp += n
		f.left -= n
	}
	return dst, true, nil
}

// next makes sure that the header of the next message is in the buffer and
// returns the length of the whole message. Nothing is taken.
func (f *Frames) next(size int) (int, error) {
	for f.wp-f.rp < frameHeader {
		if err := f.fill(size); err != nil {
			return 0, err
		}
	}
	n := int(int32(binary.BigEndian.Uint32(f.buf[f.rp+1:])))
	if n < frameHeader-1 {
		return 0, fmt.Errorf("message of type %q has the length %d", f.buf[f.rp], n)
	}
	return n + 1, nil
}

// fill reads once. The buffer gets at least the given size.
func (f *Frames) fill(size int) error {
	if f.rp == f.wp {
		f.rp, f.wp = 0, 0
	}
	if len(f.buf) < size {
		buf := make([]byte, size)
		f.wp = copy(buf, f.buf[f.rp:f.wp])
		f.rp, f.buf = 0, buf
	}
	if f.rp > 0 && len(f.buf)-f.wp < frameHeader {
		f.wp = copy(f.buf, f.buf[f.rp:f.wp])
		f.rp = 0
	}
	n, err := f.r.Read(f.buf[f.wp:])
	f.wp += n
	if n > 0 {
		return nil // an error comes again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}
