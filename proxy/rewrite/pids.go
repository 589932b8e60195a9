package rewrite

import (
	"encoding/binary"

	"crossfade/proxy/wire"
)

// PIDs replaces the pid in a NotificationResponse by the one that clients know. Its methods may be
// called concurrently if it may be.
type PIDs func(pid uint32) uint32

// Frame translates a frame in place, if it is a NotificationResponse.
func (p PIDs) Frame(frame []byte) {
	if p != nil && frame[0] == 'A' && len(frame) >= wire.HeadLen+4 {
		pid := frame[wire.HeadLen:]
		binary.BigEndian.PutUint32(pid, p(binary.BigEndian.Uint32(pid)))
	}
}

// Frames does so with whole frames.
func (p PIDs) Frames(b []byte) {
	for len(b) > 0 {
		_, _, rest, ok := wire.Cut(b)
		if !ok {
			return
		}
		p.Frame(b)
		b = rest
	}
}
