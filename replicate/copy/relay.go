package copy

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// headerBytes is room for the header of a CopyData message in front of each
// buffer: one byte of type, four of length (PostgreSQL documentation 55.7).
const headerBytes = 5

// errReaderGone tells the source's COPY that the target's has ended. It is never
// the cause of a failure.
var errReaderGone = errors.New("target ended its COPY")

// errYielded says that a read was given up for a session that waits for the
// table. The chunk is tried again.
var errYielded = errors.New("gave way to a session that waits for the table")

// relay passes the bytes of one COPY from the goroutine that reads them to the
// goroutine that writes them, through two large buffers. The end of the stream
// must be told: io.EOF only after the source's COPY has ended well, any other
// error makes the target's COPY fail.
type relay struct {
	full  chan []byte // header room and bytes
	free  chan []byte
	cur   []byte
	moved func(n int) // called for each buffer passed on
	limit *Limiter    // paid by who takes the buffers; may be nil

	ended chan struct{} // closed by closeWith; err is set before
	err   error
	gone  chan struct{} // closed by readerGone
	drop  sync.Once
	yield chan struct{} // closed by discard
	waste sync.Once
}

// buffers keeps the buffers of a worker between chunks.
type buffers [2][]byte

func newBuffers(size int) buffers {
	var b buffers
	for i := range b {
		b[i] = make([]byte, headerBytes, headerBytes+size)
	}
	return b
}

func newRelay(b buffers, moved func(int)) *relay {
	r := &relay{
		full: make(chan []byte, len(b)), free: make(chan []byte, len(b)), moved: moved,
		ended: make(chan struct{}), gone: make(chan struct{}), yield: make(chan struct{}),
	}
	for _, buf := range b {
		r.free <- buf[:headerBytes]
	}
	return r
}

// Write takes bytes in, and waits while both buffers are full. After discard it
// throws them away.
func (r *relay) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		select {
		case <-r.yield: // for good: no later byte may follow a hole
			return n, nil
		default:
		}
		if r.cur == nil {
			select {
			case <-r.yield:
				return n, nil
			case r.cur = <-r.free:
			case <-r.gone:
				return n - len(p), errReaderGone
			}
		}
		k := min(len(p), cap(r.cur)-len(r.cur))
		r.cur = append(r.cur, p[:k]...)
		p = p[k:]
		if len(r.cur) == cap(r.cur) {
			r.pass()
		}
	}
	return n, nil
}

// pass never blocks: there is room in full for every buffer.
func (r *relay) pass() {
	r.moved(len(r.cur) - headerBytes)
	r.full <- r.cur
	r.cur = nil
}

// closeWith ends the stream and returns what the target's COPY is told, nil for
// io.EOF. It is called once, by the goroutine that writes.
func (r *relay) closeWith(err error) error {
	select {
	case <-r.yield:
		err = fmt.Errorf("%w: %w", errYielded, err)
	default:
	}
	if err == io.EOF && len(r.cur) > headerBytes {
		r.pass()
	}
	r.err = err
	close(r.ended)
	if err == io.EOF {
		return nil
	}
	return err
}

// discard makes the writing goroutine throw away what still comes, so that a
// server that was asked to cancel is not held up by a full socket: it looks for
// the request only when it can send. The stream then never ends well.
func (r *relay) discard() { r.waste.Do(func() { close(r.yield) }) }

// next returns the next buffer with its header room, or the error that the
// stream ended with, or errReaderGone. The buffer is given back with recycle.
func (r *relay) next() ([]byte, error) {
	select {
	case b := <-r.full:
		return b, nil
	case <-r.gone:
		return nil, errReaderGone
	case <-r.ended:
	}
	if r.err == io.EOF {
		select {
		case b := <-r.full:
			return b, nil
		default:
		}
	}
	return nil, r.err
}

func (r *relay) recycle(b []byte) { r.free <- b[:headerBytes] }

// readerGone releases the writing goroutine when nobody reads any more.
func (r *relay) readerGone() { r.drop.Do(func() { close(r.gone) }) }
