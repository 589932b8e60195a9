package poll

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// BufferSize is what one read takes at most, in bytes. Larger results need fewer
// system calls; a session has a buffer only while it has bytes in it.
const BufferSize = 32 << 10

type buffer [BufferSize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// Reader reads one direction of a session. On a plaintext connection it waits
// for bytes without a buffer, so that an idle session pins none; crypto/tls needs
// one to wait with. Not safe for concurrent use, deadlines of conn excepted.
type Reader struct {
	conn net.Conn
	raw  syscall.RawConn // nil for TLS
	try  func(fd uintptr) bool
	step *Conn // under TLS; nil for none
	left bool  // crypto/tls may have more than now has returned, or an error after it

	pre []byte // read earlier by someone else; own memory

	buf *buffer
	at  int   // where try reads to
	n   int   // what try read
	err error // what try met
}

func NewReader(conn net.Conn, pre []byte) *Reader {
	r := &Reader{conn: conn, pre: pre, step: stepped(conn)}
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			r.raw = raw
			r.try = r.tryRead // made once: a method value allocates
		}
	}
	return r
}

// Read waits for bytes and returns what there is. The slice is valid until
// release or the next read, and may be written to. Bytes may come with an error.
func (r *Reader) Read() ([]byte, error) {
	if len(r.pre) > 0 {
		p := r.pre
		r.pre = nil
		return p, nil
	}
	n, err := r.fill(0)
	if n == 0 {
		return nil, err
	}
	return r.buf[:n], err
}

// stepped returns the connection under TLS that can be read and written in steps, nil for none.
func stepped(conn net.Conn) *Conn {
	if t, ok := conn.(*tls.Conn); ok {
		c, _ := t.NetConn().(*Conn)
		return c
	}
	return nil
}

// Descriptor returns the file descriptor of the connection, false where now cannot be called.
func (r *Reader) Descriptor() (fd int, ok bool) {
	if r.step != nil {
		return r.step.FD()
	}
	return Descriptor(r.raw)
}

// Now is read for a caller that does not wait: ErrWouldBlock says that there is nothing. After it,
// left says that there may be more that no event of the socket announces: it must be called again.
func (r *Reader) Now(fd int) ([]byte, error) {
	if r.step != nil {
		budget := BufferSize
		if r.left {
			budget = 0
		}
		return r.nowTLS(budget)
	}
	r.at, r.n, r.err = 0, 0, nil
	if !r.tryRead(uintptr(fd)) {
		return nil, ErrWouldBlock
	}
	if r.n == 0 {
		return nil, r.err
	}
	return r.buf[:r.n], nil
}

// nowTLS is now. It reads on until crypto/tls has no whole record more, of at most budget bytes
// of the socket, or the buffer is full. An error that comes after bytes comes again: left.
func (r *Reader) nowTLS(budget int) ([]byte, error) {
	if r.buf == nil {
		r.buf = buffers.Get().(*buffer)
	}
	n, err := 0, error(nil)
	r.step.Begin(budget)
	for n < BufferSize && err == nil {
		var m int
		m, err = r.conn.Read(r.buf[n:])
		n += m
	}
	r.step.End()
	waits := errors.Is(err, ErrWouldBlock)
	r.left = n > 0 && !waits
	switch {
	case n > 0:
		return r.buf[:n], nil
	case waits:
		return nil, ErrWouldBlock
	}
	return nil, err
}

// Answered writes what crypto/tls had to answer to what now has read, such as the change of a
// key, and reports whether the socket has taken it.
func (r *Reader) Answered() bool {
	if r.step == nil {
		return true
	}
	all, err := r.step.Flush()
	return all && err == nil
}

// Write writes p to the connection, without waiting, and reports whether the socket has taken
// all of it. What is left is in rest or, under TLS, with the connection below it.
func (r *Reader) Write(fd int, p []byte) (rest []byte, all bool) {
	if r.step == nil {
		n, err := WriteNow(fd, p)
		if n == len(p) && err == nil {
			return nil, true
		}
		return append([]byte(nil), p[n:]...), false
	}
	r.step.Begin(0)
	_, err := r.conn.Write(p)
	r.step.End()
	if err != nil { // of a connection that is closed: a pump meets the same
		return append([]byte(nil), p...), false
	}
	return nil, r.Answered()
}

// Push writes p, after what a step has left, and waits as long as that takes.
func (r *Reader) Push(p []byte) error {
	if r.step != nil {
		if err := r.step.Drain(); err != nil {
			return err
		}
	}
	if len(p) == 0 {
		return nil
	}
	_, err := r.conn.Write(p)
	return err
}

// Fast reports that the connection is one that the engine can serve.
func (r *Reader) Fast() bool { return r.raw != nil || r.step != nil }

// Ready reports that Now may be called, and that events of the socket announce everything that
// arrives: nothing was read earlier by other code, crypto/tls included.
func (r *Reader) Ready() bool {
	if len(r.pre) > 0 || !r.Fast() {
		return false
	}
	if r.step == nil {
		return true
	}
	p, err := r.nowTLS(BufferSize)
	if len(p) > 0 {
		r.pre = append([]byte(nil), p...)
	}
	r.Release()
	return err == ErrWouldBlock
}

// More keeps p, the tail of what read returned, and reads after it.
func (r *Reader) More(p []byte) ([]byte, error) {
	if r.buf == nil {
		r.buf = buffers.Get().(*buffer)
	}
	n := copy(r.buf[:], p)
	m, err := r.fill(n)
	return r.buf[:n+m], err
}

// Drained reports that the socket had nothing more when Now returned, its end apart: where it has
// more, only that is announced which comes later.
func (r *Reader) Drained() bool {
	if r.step != nil {
		return r.step.dry
	}
	return r.n < BufferSize
}

// Unread has p read again, before all that comes.
func (r *Reader) Unread(p []byte) { r.pre = p }

// Again reports that crypto/tls may have more than Now has returned, or an error after it, which no
// event of the socket announces.
func (r *Reader) Again() bool { return r.left }

// HasBuffer reports that the reader has a buffer.
func (r *Reader) HasBuffer() bool { return r.buf != nil }

// Full reports that there is no room after p.
func (r *Reader) Full(p []byte) bool { return len(p) >= BufferSize }

// Empty reports that nothing was read earlier by other code and is still to be returned.
func (r *Reader) Empty() bool { return len(r.pre) == 0 }

// Release gives the buffer back.
func (r *Reader) Release() {
	if r.buf != nil {
		buffers.Put(r.buf)
		r.buf = nil
	}
}

func (r *Reader) fill(at int) (int, error) {
	if r.raw == nil {
		if r.buf == nil {
			r.buf = buffers.Get().(*buffer)
		}
		return r.conn.Read(r.buf[at:])
	}
	r.at, r.n, r.err = at, 0, nil
	if err := r.raw.Read(r.try); err != nil {
		return 0, err
	}
	return r.n, r.err
}

// tryRead reads without waiting; false has the runtime wait until there is something to read.
func (r *Reader) tryRead(fd uintptr) bool {
	fresh := r.buf == nil
	if fresh {
		r.buf = buffers.Get().(*buffer)
	}
	n, err := ReadNow(int(fd), r.buf[r.at:])
	if errors.Is(err, syscall.EAGAIN) {
		if fresh {
			r.Release()
		}
		return false
	}
	r.n, r.err = max(n, 0), err
	if n == 0 && err == nil {
		r.err = io.EOF
	}
	return true
}

// TimedOut reports that a deadline ended a wait: someone wants the goroutine's attention, or a
// bound is reached.
func TimedOut(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
