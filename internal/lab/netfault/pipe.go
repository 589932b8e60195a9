package netfault

import (
	"errors"
	"io"
	"math/rand/v2"
	"time"
)

const (
	// readSize is one read; small enough for a fair delay of each run of bytes.
	readSize = 32 << 10
	// queued is how many reads may be under way in a delayed pipe before the
	// sender meets back pressure.
	queued = 128
	// pace is how many pieces a second a limited pipe is cut into.
	pace = 50
	// routerQueue is how long bytes may stand in front of a shared bandwidth before
	// their sender meets back pressure.
	routerQueue = 50 * time.Millisecond
)

// piece is a run of bytes on its way, or the end of the stream.
type piece struct {
	data []byte
	due  time.Time
	end  error // io.EOF or the read's error: the last piece
}

// pipe moves the bytes of one direction of a link. Two goroutines share it: read
// stamps each piece with the time at which it is due, write waits and writes.
type pipe struct {
	link   *link
	dir    Direction
	shape  *shaper
	frames *frames
	queue  chan piece
	free   time.Time // when the bandwidth allows the next write
}

// read ends when its source ends or the link does.
func (p *pipe) read() {
	defer close(p.queue)
	var last time.Time
	for {
		buf := make([]byte, readSize)
		n, err := p.link.conns[p.dir].Read(buf)
		sh, _ := p.shape.get(p.dir)
		left := p.shape.reserve(p.dir, n)
		due := left.Add(sh.Delay + sh.repair(n, rand.Float64()))
		if due.Before(last) {
			due = last // a smaller delay does not overtake
		}
		last = due
		select {
		case p.queue <- piece{data: buf[:n], due: due, end: err}:
		case <-p.link.ended:
			return
		}
		if err != nil {
			return
		}
		if !p.until(left.Add(-routerQueue)) {
			return
		}
	}
}

// until returns at that time, or with false when the link has ended.
func (p *pipe) until(at time.Time) bool {
	rest := time.Until(at)
	if rest <= 0 {
		return true
	}
	select {
	case <-time.After(rest):
	case <-p.link.quieted:
	case <-p.link.ended:
		return false
	}
	return true
}

// write ends after the last piece or with the link.
func (p *pipe) write() {
	for pc := range p.queue {
		if !p.wait(pc.due) {
			return
		}
		if !p.link.isSilent() && len(pc.data) > 0 {
			n, trap := p.frames.feed(pc.data)
			if !p.send(pc.data[:n]) {
				return
			}
			if trap != nil {
				p.link.cut(trap.Mode)
				close(trap.fired)
				if !p.link.isSilent() {
					return
				}
			}
		}
		if pc.end != nil {
			p.finish(pc.end)
			return
		}
	}
}

// finish passes the end of the source on: an orderly one as such, any other as a
// RST. A silent link passes nothing on: it is over when this peer has left.
func (p *pipe) finish(err error) {
	switch {
	case p.link.isSilent():
		_ = p.link.conns[p.dir].Close()
	case errors.Is(err, io.EOF):
		closeWrite(p.link.conns[1-p.dir])
	default:
		p.link.end(true)
	}
}

// wait returns when due has come and no stall holds the pipe, or with false when
// the link has ended.
func (p *pipe) wait(due time.Time) bool {
	for {
		sh, changed := p.shape.get(p.dir)
		rest := time.Until(due)
		if p.link.isSilent() || rest <= 0 && !sh.Stall {
			return true
		}
		var timer <-chan time.Time
		if !sh.Stall {
			timer = time.After(rest)
		}
		select {
		case <-timer:
		case <-changed:
		case <-p.link.quieted:
		case <-p.link.ended:
			return false
		}
	}
}

// send writes data at the pipe's bandwidth. It returns false when the link has
// ended or cannot take more.
func (p *pipe) send(data []byte) bool {
	dst := p.link.conns[1-p.dir]
	for len(data) > 0 {
		sh, _ := p.shape.get(p.dir)
		n := len(data)
		if sh.Bandwidth > 0 {
			n = min(n, max(sh.Bandwidth/pace, 1))
			if !p.wait(p.free) {
				return false
			}
			p.free = time.Now().Add(time.Duration(n) * time.Second / time.Duration(sh.Bandwidth))
		}
		if p.link.isSilent() {
			return true
		}
		p.shape.passed[p.dir].Add(int64(n)) // before anyone who gets them can look
		if _, err := dst.Write(data[:n]); err != nil {
			if p.link.isSilent() {
				return true
			}
			p.link.end(true)
			return false
		}
		data = data[n:]
	}
	return true
}
