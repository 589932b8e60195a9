package poll

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// Conn is a connection under crypto/tls that either waits, as any other does, or takes steps
// that do not. In a step, a read finds ErrWouldBlock where the socket has nothing: crypto/tls
// keeps its state, and the part of a record that it has, when an error is temporary. A write
// collects ciphertext, which Flush writes as far as the socket takes it; what is left goes out
// ahead of the next write that waits.
//
// Reads, and steps with them, are made by one goroutine at a time, and so are writes.
type Conn struct {
	net.Conn
	fd       int // -1 for none
	peeked   []byte
	stepping atomic.Bool
	dry      bool // the socket had no more when it was read last
	budget   int  // bytes that the step may still read

	mu  sync.Mutex
	out *[]byte // ciphertext that is not written; nil for none
}

// NewConn returns conn with steps. peeked was read from it before and is read again first.
// The caller closes it, as it would conn.
func NewConn(conn net.Conn, peeked []byte) *Conn {
	c := &Conn{Conn: conn, fd: -1, peeked: peeked}
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			if fd, ok := Descriptor(raw); ok {
				c.fd = fd
			}
		}
	}
	return c
}

// Descriptor returns the file descriptor of a connection, which stays its own until it is closed.
func Descriptor(raw syscall.RawConn) (fd int, ok bool) {
	if raw == nil {
		return 0, false
	}
	err := raw.Control(func(f uintptr) { fd = int(f) })
	return fd, err == nil
}

// FD returns the socket's file descriptor, false where steps cannot be taken.
func (c *Conn) FD() (int, bool) { return c.fd, c.fd >= 0 }

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// ErrWouldBlock says that the socket has nothing to read. It is a net.Error that is temporary
// and no timeout.
var ErrWouldBlock net.Error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "nothing to read without waiting" }
func (wouldBlock) Timeout() bool   { return false }
func (wouldBlock) Temporary() bool { return true }

// Begin begins a step, which End ends. It reads budget bytes from the socket and not more, so
// that a peer that sends without a pause does not keep others waiting.
func (c *Conn) Begin(budget int) {
	if c.budget = budget; budget > 0 {
		c.dry = false
	}
	c.stepping.Store(true)
}

// End ends a step.
func (c *Conn) End() { c.stepping.Store(false) }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.peeked) > 0 {
		n := copy(p, c.peeked)
		c.peeked = c.peeked[n:]
		return n, nil
	}
	if !c.stepping.Load() {
		return c.Conn.Read(p)
	}
	if c.dry || c.budget <= 0 || len(p) == 0 {
		return 0, ErrWouldBlock
	}
	if len(p) > c.budget {
		p = p[:c.budget]
	}
	n, err := ReadNow(c.fd, p)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		c.dry = true
		return 0, ErrWouldBlock
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	c.dry = n < len(p)
	c.budget -= n
	return n, nil
}

// collected are buffers of what steps write: the records of 32 KiB, with room.
var collected = sync.Pool{New: func() any {
	b := make([]byte, 0, 34<<10)
	return &b
}}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	if !c.stepping.Load() {
		if err := c.Drain(); err != nil {
			return 0, err
		}
		return c.Conn.Write(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out == nil {
		c.out, _ = collected.Get().(*[]byte)
	}
	*c.out = append(*c.out, p...)
	return len(p), nil
}

// Flush writes what steps have collected, without waiting. It reports whether all of it was
// written.
func (c *Conn) Flush() (all bool, err error) {
	return c.emptied(func(p []byte) (int, error) { return WriteNow(c.fd, p) })
}

// Drain writes what steps have collected, and waits as a Write does.
func (c *Conn) Drain() error {
	_, err := c.emptied(c.Conn.Write)
	return err
}

func (c *Conn) emptied(write func([]byte) (int, error)) (all bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out == nil {
		return true, nil
	}
	n, err := write(*c.out)
	*c.out = (*c.out)[:copy(*c.out, (*c.out)[n:])]
	if len(*c.out) > 0 {
		return false, err
	}
	collected.Put(c.out)
	c.out = nil
	return true, nil
}
