package proxy

import (
	"container/list"
	"context"
	"net"
	"net/netip"
	"sync"

	"crossfade/internal/pg"
)

// strangers are the connections whose client has not proved who it is. They are bounded in number, in all and for each
// address. A new one is let in all the same: the oldest of the address that holds most gives way, first of those that have
// said nothing. So a crowd of half-open connections pushes out itself, and not a client that has just come. Safe for
// concurrent use.
type strangers struct {
	total, perAddress int

	mu      sync.Mutex
	n       int
	next    uint64 // numbers them in the order of their coming
	crowds  map[netip.Prefix]*crowd
	refused int64 // those that had to give way
}

// crowd are the strangers from one address, oldest first.
type crowd struct {
	silent list.List // without a start-up packet yet
	spoken list.List
}

func (c *crowd) len() int { return c.silent.Len() + c.spoken.Len() }

// oldest is the one that gives way.
func (c *crowd) oldest() *place {
	e := c.silent.Front()
	if e == nil {
		e = c.spoken.Front()
	}
	return e.Value.(*place)
}

// place is one stranger's. Its fields are guarded by strangers.mu.
type place struct {
	all    *strangers
	from   netip.Prefix
	number uint64
	in     *list.List // nil when it has left
	at     *list.Element
	leave  context.CancelCauseFunc
}

// errCrowded ends a stranger that gave way.
var errCrowded = fatal(pg.CodeTooManyConnections, "too many connections that have not authenticated")

// origin is what counts as one address: an IPv4 address, and the /64 of an IPv6 one, all of which one host may use. The
// zero value stands for all others.
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

// admit takes a stranger in. leave is called, with errCrowded, when it has to give way.
func (s *strangers) admit(addr net.Addr, leave context.CancelCauseFunc) *place {
	from := origin(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.crowds[from]
	switch {
	case c != nil && c.len() >= s.perAddress:
		s.expel(c.oldest())
	case s.n >= s.total:
		s.expelOne()
	}
	if c = s.crowds[from]; c == nil {
		c = &crowd{}
		s.crowds[from] = c
	}
	s.n++
	s.next++
	p := &place{all: s, from: from, number: s.next, in: &c.silent, leave: leave}
	p.at = c.silent.PushBack(p)
	return p
}

// shed has one stranger give way, so that its file descriptor becomes free.
func (s *strangers) shed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expelOne()
}

// expelOne has the oldest of the largest crowd give way. Called with mu locked.
func (s *strangers) expelOne() {
	var victim *place
	most := 0
	for _, c := range s.crowds {
		if n, o := c.len(), c.oldest(); n > most || n == most && o.number < victim.number {
			victim, most = o, n
		}
	}
	if victim != nil {
		s.expel(victim)
	}
}

func (s *strangers) expel(p *place) {
	s.remove(p)
	s.refused++
	p.leave(errCrowded)
}

func (s *strangers) remove(p *place) {
	p.in.Remove(p.at)
	p.in = nil
	s.n--
	if c := s.crowds[p.from]; c.len() == 0 {
		delete(s.crowds, p.from)
	}
}

// spoke notes that the start-up packet has come.
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

// known gives the place back. It reports false where the stranger had to give way before. Calling it again does nothing.
func (p *place) known() bool {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	if p.in == nil {
		return false
	}
	p.all.remove(p)
	return true
}

// count returns how many strangers there are, and how many had to give way since the start.
func (s *strangers) count() (now int, refused int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n, s.refused
}
