package rewrite

import "encoding/binary"

// HeadLen is the length of a frame's type and length, in bytes.
const HeadLen = 5

// Spot is the position in a stream of frames.
type Spot struct {
	head [5]byte
	seen int
	left int
}

func (w *Spot) Between() bool { return w.seen == 0 && w.left == 0 }

// Missing is how many bytes certainly belong to the frame under way.
func (w *Spot) Missing() int {
	if w.left > 0 {
		return w.left
	}
	return len(w.head) - w.seen
}

func (w *Spot) Walk(p []byte) {
	for len(p) > 0 {
		if w.left > 0 {
			n := min(w.left, len(p))
			w.left -= n
			p = p[n:]
			continue
		}
		n := copy(w.head[w.seen:], p)
		w.seen += n
		p = p[n:]
		if w.seen == len(w.head) {
			w.seen, w.left = 0, max(0, int(binary.BigEndian.Uint32(w.head[1:]))-4)
		}
	}
}

// step is walk for what belongs to one frame; it returns how much that is.
func (w *Spot) step(p []byte) int {
	n := 0
	for n < len(p) && (n == 0 || !w.Between()) {
		m := min(w.Missing(), len(p)-n)
		w.Walk(p[n : n+m])
		n += m
	}
	return n
}
