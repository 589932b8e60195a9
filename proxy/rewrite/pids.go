package rewrite

import "encoding/binary"

// PIDs walks a server's frames and translates the pid of every
// NotificationResponse into the one that the client knows: its own from before a
// move, or that of another session of ours. Not safe for concurrent use.
type PIDs struct {
	translate func(pid uint32) uint32

	head [5]byte
	seen int
	left int
}

// NewPIDs makes one that goes by what translate knows.
func NewPIDs(translate func(pid uint32) uint32) *PIDs {
	return &PIDs{translate: translate}
}

// notificationHead is the header of a NotificationResponse and its pid, in bytes.
const notificationHead = 9

// Rewrite translates in place and returns how much of p may be forwarded: all but the beginning of
// a notification whose pid is not there yet, at most maxCarry bytes. Those bytes must be at the
// head of the next p.
func (w *PIDs) Rewrite(p []byte) int {
	for at := 0; at < len(p); {
		if w.left > 0 {
			n := min(w.left, len(p)-at)
			w.left -= n
			at += n
			continue
		}
		if w.seen == 0 && p[at] == 'A' {
			if len(p)-at < notificationHead {
				return at
			}
			pid := p[at+5 : at+notificationHead]
			binary.BigEndian.PutUint32(pid, w.translate(binary.BigEndian.Uint32(pid)))
		}
		n := copy(w.head[w.seen:], p[at:])
		w.seen += n
		at += n
		if w.seen == len(w.head) {
			w.seen = 0
			w.left = max(0, int(binary.BigEndian.Uint32(w.head[1:]))-4)
		}
	}
	return len(p)
}
