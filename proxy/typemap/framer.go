package typemap

import (
	"encoding/binary"
	"strconv"
)

const (
	headLen = 5 // type and length of a frame, in bytes
	// maxHeld is how much of one frame is held back at most, in bytes. A larger one passes
	// unchanged.
	maxHeld = 64 << 20
	// keepHeld is what stays allocated between two frames, in bytes.
	keepHeld = 16 << 10
)

// framer cuts one direction's bytes into frames, and holds back those that may have
// to be changed until they are whole.
type framer struct {
	held []byte // beginning of a frame that is held back
	head [headLen]byte
	seen int // bytes of head, of a frame that passes
	left int // bytes of its body still to come

	out []byte // what run returned, where that was not in place
}

// actor decides about frames and is told of them. A frame is its head and its body.
type actor interface {
	holds(typ byte) bool       // whether frames of the type are wanted whole
	passing(typ byte)          // the head of a frame has passed that was not
	whole(frame []byte) []byte // what goes in its place: the frame itself, changed in place, or another
}

// run returns what is to be sent on of p, which may be changed. The result is valid
// until the next call.
func (f *framer) run(p []byte, a actor) []byte {
	o := output{p: p, buf: f.out[:0]}
	for at := 0; at < len(p); {
		switch {
		case f.left > 0:
			n := min(f.left, len(p)-at)
			o.through(at, at+n)
			f.left -= n
			at += n
		case len(f.held) > 0:
			at += f.collect(p[at:], &o, a)
		case f.seen == 0 && a.holds(p[at]):
			if n := frameLen(p[at:]); n > 0 && n <= len(p)-at {
				o.frame(at, at+n, a)
				at += n
				continue
			}
			at += f.collect(p[at:], &o, a)
		default:
			n := copy(f.head[f.seen:], p[at:])
			f.seen += n
			o.through(at, at+n)
			at += n
			if f.seen == headLen {
				f.seen, f.left = 0, max(0, int(binary.BigEndian.Uint32(f.head[1:]))-4)
				a.passing(f.head[0])
			}
		}
	}
	if cap(o.buf) <= keepHeld {
		f.out = o.buf
	}
	return o.bytes()
}

// frameLen is the length of the frame that p begins with; 0 when that is not there yet.
func frameLen(p []byte) int {
	if len(p) < headLen {
		return 0
	}
	return max(headLen, int(binary.BigEndian.Uint32(p[1:]))+1)
}

// collect takes what p has of the frame that is held and returns how much that was.
func (f *framer) collect(p []byte, o *output, a actor) int {
	taken := 0
	if need := headLen - len(f.held); need > 0 {
		taken = min(need, len(p))
		f.held = append(f.held, p[:taken]...)
		if len(f.held) < headLen {
			return taken
		}
	}
	total := frameLen(f.held)
	if total > maxHeld {
		a.passing(f.held[0])
		o.add(f.held)
		f.left = total - len(f.held)
		f.held = nil
		return taken
	}
	n := min(total-len(f.held), len(p)-taken)
	f.held = append(f.held, p[taken:taken+n]...)
	taken += n
	if len(f.held) == total {
		o.add(a.whole(f.held))
		f.held = f.held[:0]
		if cap(f.held) > keepHeld {
			f.held = nil
		}
	}
	return taken
}

// output is what is passed on of p: a run of p itself, as long as nothing has to be inserted.
type output struct {
	p        []byte
	from, to int
	copied   bool
	buf      []byte
}

func (o *output) through(from, to int) {
	switch {
	case o.copied:
		o.buf = append(o.buf, o.p[from:to]...)
	case o.from == o.to:
		o.from, o.to = from, to
	case o.to == from:
		o.to = to
	default:
		o.copy()
		o.buf = append(o.buf, o.p[from:to]...)
	}
}

func (o *output) copy() {
	if !o.copied {
		o.copied = true
		o.buf = append(o.buf, o.p[o.from:o.to]...)
	}
}

func (o *output) add(b []byte) {
	o.copy()
	o.buf = append(o.buf, b...)
}

// frame passes to the actor a frame that is whole in p.
func (o *output) frame(from, to int, a actor) {
	b := o.p[from:to:to]
	r := a.whole(b)
	if len(r) == len(b) && &r[0] == &b[0] {
		o.through(from, to)
		return
	}
	o.add(r)
}

func (o *output) bytes() []byte {
	if o.copied {
		return o.buf
	}
	return o.p[o.from:o.to]
}

func appendUint(dst []byte, n uint32) []byte { return strconv.AppendUint(dst, uint64(n), 10) }
