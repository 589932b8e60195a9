package login

import (
	"container/list"
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/proxy/ending"
)

// unauthenticated holds the connections whose client has not authenticated. Their number is
// bounded, in total and for each address. A new one is always admitted: to make room, the oldest
// connection of the address that holds most is closed, preferring those that have sent nothing. So
// a flood of half-open connections displaces its own connections, and not a client that has just
// connected. Safe for concurrent use.
type unauthenticated struct {
	total, perAddress int

	mu      sync.Mutex
	freed   chan struct{} // closed when a connection leaves; nil while nothing waits for that
	n       int
	next    uint64 // numbers them in the order of arrival
	crowds  map[netip.Prefix]*crowd
	refused int64 // those that were closed to make room
}

// crowd is the unauthenticated connections from one address, oldest first.
type crowd struct {
	silent list.List // without a start-up packet yet
	spoken list.List
}

func (c *crowd) len() int { return c.silent.Len() + c.spoken.Len() }

// oldest is the connection that is closed to make room: of those past minStay, the oldest that has
// sent nothing, else the oldest that has.
func (c *crowd) oldest() *place {
	silent, spoken := c.silent.Front(), c.spoken.Front()
	switch {
	case silent == nil, spoken != nil && silent.Value.(*place).stay() > 0 && spoken.Value.(*place).stay() <= 0:
		return spoken.Value.(*place)
	}
	return silent.Value.(*place)
}

// minStay is how long an unauthenticated connection is kept before it may be closed to make room.
// In a burst, connections arrive faster than their first bytes can be read; from then on they are
// admitted as fast as those past minStay leave.
const minStay = 100 * time.Millisecond

// stay is how much of minStay is left.
func (p *place) stay() time.Duration { return minStay - time.Since(p.since) }

// place is the entry of one unauthenticated connection. Its fields are guarded by
// unauthenticated.mu.
type place struct {
	all    *unauthenticated
	from   netip.Prefix
	number uint64
	since  time.Time
	in     *list.List // nil when it has left
	at     *list.Element
	leave  context.CancelCauseFunc
}

// errCrowded ends an unauthenticated connection that was closed to make room.
var errCrowded = ending.Fatal(pg.CodeTooManyConnections, "too many connections that have not authenticated")

// origin is what counts as one address: an IPv4 address, and the /64 of an IPv6 one, all of which
// one host may use. The zero value stands for all others.
func origin(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // never fails with these numbers
	return p
}

// admit adds an unauthenticated connection. leave is called with errCrowded when it has to make
// room.
func (s *unauthenticated) admit(addr net.Addr, leave context.CancelCauseFunc) *place {
	from := origin(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.victim(from); v != nil {
		s.expel(v)
	}
	c := s.crowds[from]
	if c == nil {
		c = &crowd{}
		s.crowds[from] = c
	}
	s.n++
	s.next++
	p := &place{all: s, from: from, number: s.next, since: time.Now(), in: &c.silent, leave: leave}
	p.at = c.silent.PushBack(p)
	return p
}

// Shed closes one unauthenticated connection, so that its file descriptor becomes free.
func (s *unauthenticated) Shed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.ofMost(); v != nil {
		s.expel(v)
	}
}

// Await waits until the connection that has to make room for a new one from that address is past
// minStay, or there is room.
func (s *unauthenticated) Await(ctx context.Context, addr net.Addr) {
	from := origin(addr)
	for {
		s.mu.Lock()
		v := s.victim(from)
		if v == nil || v.stay() <= 0 {
			s.mu.Unlock()
			return
		}
		if s.freed == nil {
			s.freed = make(chan struct{})
		}
		freed, t := s.freed, time.NewTimer(v.stay())
		s.mu.Unlock()
		select {
		case <-freed:
		case <-t.C:
		case <-ctx.Done():
		}
		if t.Stop(); ctx.Err() != nil {
			return
		}
	}
}

// victim is the connection that has to make room for a new one from that address, nil if none has
// to. Called with mu locked.
func (s *unauthenticated) victim(from netip.Prefix) *place {
	c := s.crowds[from]
	switch {
	case c != nil && c.len() >= s.perAddress:
		return c.oldest()
	case s.n >= s.total:
		return s.ofMost()
	}
	return nil
}

// ofMost is the oldest connection of the address that holds most. Called with mu locked.
func (s *unauthenticated) ofMost() *place {
	var victim *place
	most := 0
	for _, c := range s.crowds {
		if n, o := c.len(), c.oldest(); n > most || n == most && o.number < victim.number {
			victim, most = o, n
		}
	}
	return victim
}

func (s *unauthenticated) expel(p *place) {
	s.remove(p)
	s.refused++
	p.leave(errCrowded)
}

func (s *unauthenticated) remove(p *place) {
	p.in.Remove(p.at)
	p.in = nil
	s.n--
	if s.freed != nil {
		close(s.freed)
		s.freed = nil
	}
	if c := s.crowds[p.from]; c.len() == 0 {
		delete(s.crowds, p.from)
	}
}

// spoke records that the start-up packet has come.
func (p *place) spoke() {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	if p.in == nil {
		return
	}
	p.in.Remove(p.at)
	p.in = &p.all.crowds[p.from].spoken
	p.at = p.in.PushBack(p)
}

// known removes the connection. It reports false if the connection was closed before to make room.
// Calling it again does nothing.
func (p *place) known() bool {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	if p.in == nil {
		return false
	}
	p.all.remove(p)
	return true
}

// Count returns how many unauthenticated connections there are, and how many were closed to make
// room since the start.
func (s *unauthenticated) Count() (now int, refused int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n, s.refused
}
