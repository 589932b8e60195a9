package session

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"crossfade/internal/base/obs"
	"crossfade/proxy/ending"
	"crossfade/proxy/poll"
	"crossfade/proxy/rewrite"
	"crossfade/proxy/side"
)

// Registry are the sessions of one proxy, with what they share. Safe for concurrent use.
type Registry struct {
	Log    zerolog.Logger
	Sides  *side.Sides
	Engine poll.Engine

	Limits

	Held   holds
	Struck struck
	Counts counts
	// draining says that sessions are on their way to the gate that Pause has closed.
	Draining atomic.Bool

	mu struct {
		sync.Mutex
		closed   bool // the gate holds sessions; new ones too
		next     uint64
		sessions map[uint64]*Session
		byPID    map[uint32]*Session // by the pid that the client knows
		streams  map[uint64]*Stream
	}
	Pids *rewrite.Numbers
}

// Limits are what a registry goes by.
type Limits struct {
	HoldLimit     time.Duration // longer, and a held client gets 57P03
	ReviveTimeout time.Duration // bounds how long a client waits for a new server in the place of one that is gone
	// Tracked are custom settings that every session is asked for; nil if the operator has named
	// none.
	Tracked []string
}

// counts are what has become of sessions since the start.
type counts struct {
	Panics    atomic.Int64
	Revived   atomic.Int64 // sessions that got a new server in the place of one that was gone
	Expelled  atomic.Int64 // sessions that could not be moved and were ended
	Abandoned atomic.Int64 // statements that were cancelled because their client was gone
	Prepared  atomic.Int64 // transactions that clients have prepared and not ended, as far as was seen
}

// NewRegistry makes one without sessions.
func NewRegistry(log zerolog.Logger, sides *side.Sides, bounds Limits) *Registry {
	p := &Registry{Log: log, Sides: sides, Limits: bounds}
	p.mu.sessions, p.mu.byPID, p.mu.streams = map[uint64]*Session{}, map[uint32]*Session{}, map[uint64]*Stream{}
	p.Pids = rewrite.NewNumbers()
	sides.Misleads = p.Misleads
	return p
}

// enter gives a session its number and its pid, and makes the gate hold it if the gate is closed.
// The session's login holds a lease meanwhile, so that a caller that closes the gate sees this
// session, or this session sees the closed gate.
func (p *Registry) enter(r *Session, serverPID uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.next++
	r.Id, r.began = p.mu.next, time.Now()
	// The server's own pid as long as it is free: until the session moves, it is
	// what the client finds in pg_stat_activity.
	pid := p.freePID(serverPID)
	r.pid = pid
	p.mu.sessions[r.Id], p.mu.byPID[pid] = r, r
	p.Pids.Translate(0, serverPID, pid)
	if p.mu.closed {
		r.Hold(true)
	}
}

// freePID returns pid, or another one where that is taken. Called with mu locked.
func (p *Registry) freePID(pid uint32) uint32 {
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

// Leave forgets a session.
func (p *Registry) Leave(r *Session) {
	r.mu.Lock()
	serverPID := uint32(r.mu.server.pid.Load())
	r.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mu.sessions, r.Id)
	delete(p.mu.byPID, r.pid)
	_, other := p.Pids.BackendOf(r.pid)
	p.Pids.Translate(serverPID, r.pid, r.pid)
	if other {
		p.Pids.Outlive(r.pid)
	}
}

// HoldNew has the gate hold the sessions to come, or lets them pass.
func (p *Registry) HoldNew(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.closed = on
}

// HoldAll has the gate hold every session, those to come included, or lets all go.
func (p *Registry) HoldAll(on bool) []*Session {
	p.HoldNew(on)
	list := p.List()
	for _, r := range list {
		r.Hold(on)
	}
	return list
}

// Recovered is deferred at the boundary of a session: a bug ends that session and
// no other. It is the only place that recovers.
func (p *Registry) Recovered(r *Session) {
	v := recover()
	if v == nil {
		return
	}
	p.Counts.Panics.Add(1)
	e := p.Log.Error()
	if r != nil {
		e = e.Uint64(obs.KeySession, r.Id)
		r.End(ending.Fatal("XX000", "internal error of the proxy"))
	}
	// The value of a panic may quote what a client sent; where it happened does not.
	e.Bytes("stack", debug.Stack()).Msg("bug: session panicked")
}

// Misleads reports whether a server of that pid would have a number that clients know as another's.
func (p *Registry) Misleads(pid uint32) bool {
	if _, other := p.Pids.BackendOf(pid); other {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.byPID[pid] != nil
}

// List returns the present sessions, oldest first.
func (p *Registry) List() []*Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.SortedFunc(maps.Values(p.mu.sessions), func(a, b *Session) int { return cmp.Compare(a.Id, b.Id) })
}

// Find returns the session that clients know by that pid.
func (p *Registry) Find(pid uint32) *Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.byPID[pid]
}
