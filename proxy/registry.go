package proxy

import (
	"crypto/rand"
	"encoding/binary"
	"runtime/debug"
	"time"

	"crossfade/internal/obs"
)

// enter gives a session its number and its pid, and has the gate hold it if the
// gate is closed. The session's login holds a lease meanwhile, so that whoever
// closed the gate sees this session or is seen by it.
func (p *Proxy) enter(r *relay, serverPID uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.next++
	r.id, r.began = p.mu.next, time.Now()
	// The server's own pid as long as it is free: until the session moves, it is
	// what the client finds in pg_stat_activity.
	pid := p.freePID(serverPID)
	r.pid = pid
	p.mu.sessions[r.id], p.mu.byPID[pid] = r, r
	p.translate(0, serverPID, pid)
	if p.mu.closed {
		r.hold(true)
	}
}

// freePID returns pid, or another one where that is taken. Called with mu locked.
func (p *Proxy) freePID(pid uint32) uint32 {
	taken := func(pid uint32) bool {
		for _, s := range p.mu.streams {
			if s.pid == pid {
				return true
			}
		}
		return p.mu.byPID[pid] != nil
	}
	for pid == 0 || pid > 1<<31-1 || taken(pid) {
		pid = randomPID()
	}
	return pid
}

func randomPID() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint32(b[:]) >> 1
}

// leave forgets a session.
func (p *Proxy) leave(r *relay) {
	r.mu.Lock()
	serverPID := uint32(r.mu.server.pid.Load())
	r.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mu.sessions, r.id)
	delete(p.mu.byPID, r.pid)
	_, other := p.backendOf(r.pid)
	p.translate(serverPID, r.pid, r.pid)
	if other {
		p.outlive(r.pid)
	}
}

// maxOutlived is how many sessions that have ended have their numbers kept from
// meaning somebody else.
const maxOutlived = 1 << 16

// outlive keeps the number of a session that has ended from being that of a server.
func (p *Proxy) outlive(pid uint32) {
	p.pids.Lock()
	defer p.pids.Unlock()
	p.pids.now[pid] = nobody
	p.pids.ended = append(p.pids.ended, pid)
	if len(p.pids.ended) > maxOutlived {
		if p.pids.now[p.pids.ended[0]] == nobody {
			delete(p.pids.now, p.pids.ended[0])
		}
		p.pids.ended = p.pids.ended[1:]
	}
}

// moved has the pid of the session's new server translated from now on.
func (p *Proxy) moved(r *relay, from, to uint32) {
	p.translate(from, to, r.pid)
}

// translate has the pid of a server be pid for clients, in the place of an earlier
// server's.
func (p *Proxy) translate(from, to, pid uint32) {
	p.pids.Lock()
	defer p.pids.Unlock()
	if p.pids.m[from] == pid {
		delete(p.pids.m, from)
	}
	delete(p.pids.now, pid)
	if to != pid {
		p.pids.m[to] = pid
		p.pids.now[pid] = to
	}
}

// clientPID returns the pid that clients know for a server's.
func (p *Proxy) clientPID(pid uint32) uint32 {
	p.pids.Lock()
	defer p.pids.Unlock()
	if known, ok := p.pids.m[pid]; ok {
		return known
	}
	return pid
}

// holdAll has the gate hold every session, those to come included, or lets all go.
func (p *Proxy) holdAll(on bool) []*relay {
	p.mu.Lock()
	p.mu.closed = on
	p.mu.Unlock()
	list := p.relays()
	for _, r := range list {
		r.hold(on)
	}
	return list
}

// recovered is deferred at the boundary of a session: a bug ends that session and
// no other. It is the only place that recovers.
func (p *Proxy) recovered(r *relay) {
	v := recover()
	if v == nil {
		return
	}
	p.panics.Add(1)
	e := p.log.Error()
	if r != nil {
		e = e.Uint64(obs.KeySession, r.id)
		r.end(fatal("XX000", "internal error of the proxy"))
	}
	// The value of a panic may quote what a client sent; where it happened does not.
	e.Bytes("stack", debug.Stack()).Msg("bug: session panicked")
}
