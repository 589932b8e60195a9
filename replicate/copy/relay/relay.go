package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// headerBytes is the header of a CopyData message: one byte of type, four of
// length (PostgreSQL documentation 55.7).
const headerBytes = 5

// ErrReaderGone tells the source's COPY that the target's has ended. It is never
// the cause of a failure.
var ErrReaderGone = errors.New("target ended its COPY")

// ErrYielded says that a read was given up for a session that waits for the
// table. The chunk is tried again.
var ErrYielded = errors.New("gave way to a session that waits for the table")

// relayBuffers is how many buffers a relay has: some are filled while others are written.
const relayBuffers = 8

// data is where a relay takes its bytes from: pg.Frames.
type data interface {
	AppendData(dst []byte) (out []byte, more bool, err error)
}

// Relay passes the bytes of COPYs from the goroutine that reads them to the goroutine that writes
// them. A buffer holds whole messages, as they go to the target: one CopyData for as many rows as
// fit, and CopyDone where a table ends in the middle of the stream. The end of the stream must be
// told: io.EOF only after the source's COPY has ended well, any other error makes the target's COPY
// fail.
type Relay struct {
	full  chan []byte
	free  chan []byte
	cur   []byte
	Limit *Limiter      // paid by who takes the buffers; may be nil
	frame int           // where the open CopyData begins in cur, -1 for none
	moved func(n int)   // called with the bytes of rows in each buffer passed on
	rows  int           // bytes of rows in cur
	total int64         // bytes of rows taken
	Ends  []int64       // total at the end of each table
	hole  []byte        // the target of reads once nothing is passed on any more
	ended chan struct{} // closed by closeWith; err is set before
	err   error
	gone  chan struct{} // closed by readerGone
	drop  sync.Once
	yield chan struct{} // closed by discard
	waste sync.Once
}

// Buffers keeps the buffers of a worker between chunks.
type Buffers [][]byte

// NewBuffers makes buffers for size bytes of rows each.
func NewBuffers(size int) Buffers {
	b := make(Buffers, relayBuffers)
	for i := range b {
		b[i] = make([]byte, 0, headerBytes+size)
	}
	return b
}

// New returns a relay over b's buffers. moved is called with the bytes of rows in each that is
// passed on.
func New(b Buffers, moved func(int)) *Relay {
	r := &Relay{
		full: make(chan []byte, len(b)), free: make(chan []byte, len(b)), moved: moved, frame: -1,
		ended: make(chan struct{}), gone: make(chan struct{}), yield: make(chan struct{}),
	}
	for _, buf := range b {
		r.free <- buf[:0]
	}
	return r
}

// take passes on the rows that come next, until a message of another type does.
// It waits while all buffers are full. After discard it throws rows away.
func (r *Relay) take(from data) error {
	for {
		buf, err := r.room()
		if err != nil {
			return err
		}
		before := len(buf)
		buf, more, err := from.AppendData(buf)
		if r.cur != nil {
			r.cur = buf
			r.rows += len(buf) - before
			r.total += int64(len(buf) - before)
			if len(buf) == cap(buf) {
				r.pass()
			}
		}
		if err != nil || !more {
			return err
		}
	}
}

// room returns the buffer with an open CopyData and room for a byte of rows, or the hole.
func (r *Relay) room() ([]byte, error) {
	select {
	case <-r.yield: // for good: no later byte may follow a hole
		return r.throw(), nil
	default:
	}
	if r.cur != nil && r.frame < 0 && cap(r.cur)-len(r.cur) <= headerBytes {
		r.pass()
	}
	if r.cur == nil {
		select {
		case <-r.yield:
			return r.throw(), nil
		case r.cur = <-r.free:
		case <-r.gone:
			return nil, ErrReaderGone
		}
	}
	if r.frame < 0 {
		r.frame = len(r.cur)
		r.cur = append(r.cur, 'd', 0, 0, 0, 0)
	}
	return r.cur, nil
}

func (r *Relay) throw() []byte {
	if r.hole == nil {
		r.hole = make([]byte, 0, 64<<10)
	}
	r.cur = nil
	return r.hole
}

// done ends one table's COPY inside of the stream.
func (r *Relay) done() error {
	r.Ends = append(r.Ends, r.total)
	r.seal()
	if r.cur != nil && cap(r.cur)-len(r.cur) < headerBytes {
		r.pass()
	}
	if r.cur == nil {
		if _, err := r.room(); err != nil || r.cur == nil {
			return err
		}
		r.seal()
	}
	r.cur = append(r.cur, 'c', 0, 0, 0, 4)
	return nil
}

// seal writes the length of the open CopyData; one without a byte is taken out.
func (r *Relay) seal() {
	switch {
	case r.cur == nil || r.frame < 0:
	case len(r.cur) == r.frame+headerBytes:
		r.cur = r.cur[:r.frame]
	default:
		binary.BigEndian.PutUint32(r.cur[r.frame+1:], uint32(len(r.cur)-r.frame-1))
	}
	r.frame = -1
}

// pass never blocks: there is room in full for every buffer.
func (r *Relay) pass() {
	r.seal()
	r.moved(r.rows)
	r.full <- r.cur
	r.cur, r.rows = nil, 0
}

// closeWith ends the stream and returns what the target's COPY is told, nil for
// io.EOF. It is called once, by the goroutine that writes.
func (r *Relay) closeWith(err error) error {
	select {
	case <-r.yield:
		err = fmt.Errorf("%w: %w", ErrYielded, err)
	default:
	}
	r.seal()
	if err == io.EOF && len(r.cur) > 0 {
		r.pass()
	}
	r.err = err
	close(r.ended)
	if err == io.EOF {
		return nil
	}
	return err
}

// Discard makes the writing goroutine throw away what still comes, so that a
// server that was asked to cancel is not held up by a full socket: it looks for
// the request only when it can send. The stream then never ends well.
func (r *Relay) Discard() { r.waste.Do(func() { close(r.yield) }) }

// Next returns the next buffer, or the error that the stream ended with, or
// ErrReaderGone. The buffer is given back with recycle.
func (r *Relay) Next() ([]byte, error) {
	select {
	case b := <-r.full:
		return b, nil
	case <-r.gone:
		return nil, ErrReaderGone
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

func (r *Relay) recycle(b []byte) { r.free <- b[:0] }

// readerGone releases the writing goroutine when there is no reader any more.
func (r *Relay) readerGone() { r.drop.Do(func() { close(r.gone) }) }
