package rewrite

import (
	"encoding/binary"
	"sync"

	"crossfade/proxy/wire"
)

// Numbers leads from the pid of a server to that of its client, and back, where they differ. Safe
// for concurrent use; nothing else is locked under it.
type Numbers struct {
	mu sync.Mutex
	m  map[uint32]uint32
	// now maps the pid that a client knows of its session to that of its server, if they differ; to
	// a number that no backend has once the session has ended.
	now   map[uint32]uint32
	ended []uint32 // numbers of ended sessions, oldest first
}

// NewNumbers returns one in which none differs.
func NewNumbers() *Numbers { return &Numbers{m: map[uint32]uint32{}, now: map[uint32]uint32{}} }

// nobody is a number that no backend has: operating systems give smaller ones.
const nobody = 1<<31 - 1

// maxOutlived is how many sessions that have ended have their numbers kept from meaning someone
// else.
const maxOutlived = 1 << 16

// Outlive keeps the number of a session that has ended from being that of a server.
func (p *Numbers) Outlive(pid uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now[pid] = nobody
	p.ended = append(p.ended, pid)
	if len(p.ended) > maxOutlived {
		if p.now[p.ended[0]] == nobody {
			delete(p.now, p.ended[0])
		}
		p.ended = p.ended[1:]
	}
}

// Translate has the pid of a server be pid for clients, in the place of an earlier server's.
func (p *Numbers) Translate(from, to, pid uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m[from] == pid {
		delete(p.m, from)
	}
	delete(p.now, pid)
	if to != pid {
		p.m[to] = pid
		p.now[pid] = to
	}
}

// ClientPID returns the pid that clients know for a server's.
func (p *Numbers) ClientPID(pid uint32) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known, ok := p.m[pid]; ok {
		return known
	}
	return pid
}

// BackendOf returns the pid of the server of a session that clients know by that one, and whether
// it is another: one that no backend has if the session has ended.
func (p *Numbers) BackendOf(pid uint32) (now uint32, other bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, other = p.now[pid]
	return now, other
}

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
