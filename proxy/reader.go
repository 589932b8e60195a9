package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// bufferSize is what one read takes at most, in bytes. Larger results need fewer
// system calls; a session has a buffer only while it has bytes in it.
const bufferSize = 32 << 10

type buffer [bufferSize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// maxCarry is how much of a frame may be held back between two reads: the header
// and the pid of a NotificationResponse, less one byte.
const maxCarry = 8

// reader reads one direction of a session. On a plaintext connection it waits
// for bytes without a buffer, so that an idle session pins none; crypto/tls needs
// one to wait with. Not safe for concurrent use, deadlines of conn excepted.
type reader struct {
	conn net.Conn
	raw  syscall.RawConn // nil for TLS
	try  func(fd uintptr) bool

	pre   []byte // read earlier by somebody else; own memory
	carry [maxCarry]byte
	held  int // bytes in carry

	buf *buffer
	at  int   // where try reads to
	n   int   // what try read
	err error // what try met
}

func newReader(conn net.Conn, pre []byte) *reader {
	r := &reader{conn: conn, pre: pre}
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			r.raw = raw
			r.try = r.tryRead // made once: a method value allocates
		}
	}
	return r
}

// read waits for bytes and returns what there is. The slice is valid until
// release or the next read, and may be written to. Bytes may come with an error.
func (r *reader) read() ([]byte, error) {
	if len(r.pre) > 0 {
		p := r.pre
		r.pre = nil
		return p, nil
	}
	held := r.held
	n, err := r.fill(held)
	if n == 0 {
		return nil, err
	}
	copy(r.buf[:held], r.carry[:held])
	r.held = 0
	return r.buf[:held+n], err
}

// now is read for a caller that does not wait: errAgain says that there is nothing.
func (r *reader) now(fd int) ([]byte, error) {
	r.at, r.n, r.err = r.held, 0, nil
	if !r.tryRead(uintptr(fd)) {
		return nil, errAgain
	}
	if r.n == 0 {
		return nil, r.err
	}
	copy(r.buf[:r.held], r.carry[:r.held])
	n := r.held + r.n
	r.held = 0
	return r.buf[:n], nil
}

// ready reports that now may be called: nothing was read earlier by somebody else.
func (r *reader) ready() bool { return r.raw != nil && len(r.pre) == 0 }

// more keeps p, the tail of what read returned, and reads behind it.
func (r *reader) more(p []byte) ([]byte, error) {
	if r.buf == nil {
		r.buf = buffers.Get().(*buffer)
	}
	n := copy(r.buf[:], p)
	m, err := r.fill(n)
	return r.buf[:n+m], err
}

// full reports that more has no room behind p.
func (r *reader) full(p []byte) bool { return len(p) >= bufferSize }

// keep holds tail, at most maxCarry bytes, back for the next read.
func (r *reader) keep(tail []byte) { r.held = copy(r.carry[:], tail) }

// whole reports that nothing is held back.
func (r *reader) whole() bool { return r.held == 0 && len(r.pre) == 0 }

// release gives the buffer back.
func (r *reader) release() {
	if r.buf != nil {
		buffers.Put(r.buf)
		r.buf = nil
	}
}

func (r *reader) fill(at int) (int, error) {
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

// tryRead reads without waiting; false has the runtime wait until there is
// something to read.
func (r *reader) tryRead(fd uintptr) bool {
	fresh := r.buf == nil
	if fresh {
		r.buf = buffers.Get().(*buffer)
	}
	n, err := readNow(int(fd), r.buf[r.at:])
	if errors.Is(err, syscall.EAGAIN) {
		if fresh {
			r.release()
		}
		return false
	}
	r.n, r.err = max(n, 0), err
	if n == 0 && err == nil {
		r.err = io.EOF
	}
	return true
}

// timedOut reports that a deadline ended a wait: somebody wants the goroutine's
// attention, or a bound is reached.
func timedOut(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
