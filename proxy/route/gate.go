package route

import (
	"context"
	"fmt"
	"sync"
)

// Gate lets logins pass, or holds them. The zero value is open. Safe for concurrent use.
type Gate struct {
	mu         sync.Mutex // guards what follows; nothing else is locked under it
	closed     bool
	generation uint64        // number of Close calls that closed an open gate
	leases     int           // logins between Enter and Release
	waiting    int           // logins held in Enter
	opened     chan struct{} // closed by Open; made by Close
	drained    chan struct{} // closed when leases is zero; made by who waits
}

// Lease is one login's right to make a server connection. Release it once;
// further calls do nothing. Not safe for concurrent use.
type Lease struct {
	gate *Gate
}

// Enter returns a lease as soon as the gate is open, or the context's error. The
// caller bounds the wait by the context.
func (g *Gate) Enter(ctx context.Context) (*Lease, error) {
	for {
		g.mu.Lock()
		if !g.closed {
			g.leases++
			g.mu.Unlock()
			return &Lease{gate: g}, nil
		}
		opened := g.opened
		g.waiting++
		g.mu.Unlock()

		var err error
		select {
		case <-opened:
		case <-ctx.Done():
			err = ctx.Err()
		}
		g.mu.Lock()
		g.waiting--
		g.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

// Release gives the lease back.
func (l *Lease) Release() {
	g := l.gate
	if g == nil {
		return
	}
	l.gate = nil
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leases--
	if g.leases == 0 && g.drained != nil {
		close(g.drained)
		g.drained = nil
	}
}

// Close closes the gate and returns the generation that Open must name. Closing
// a closed gate starts a new generation as well: who closed it last, owns it.
func (g *Gate) Close() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.closed = true
		g.opened = make(chan struct{})
	}
	g.generation++
	return g.generation
}

// Open opens the gate if this generation is the one that closed it last, and
// reports whether the gate is open now.
func (g *Gate) Open(generation uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		return true
	}
	if generation != g.generation {
		return false
	}
	g.closed = false
	close(g.opened)
	g.opened = nil
	return true
}

// Drained returns when no lease is out, or with the context's error. Only while
// the gate is closed does the answer stay true.
func (g *Gate) Drained(ctx context.Context) error {
	for {
		g.mu.Lock()
		if g.leases == 0 {
			g.mu.Unlock()
			return nil
		}
		if g.drained == nil {
			g.drained = make(chan struct{})
		}
		drained := g.drained
		g.mu.Unlock()
		select {
		case <-drained:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// GateState is a picture of a gate, for reports.
type GateState struct {
	Closed     bool
	Generation uint64
	Leases     int // logins that are making a server connection
	Waiting    int // logins that wait for the gate to open
}

// State returns the present picture.
func (g *Gate) State() GateState {
	g.mu.Lock()
	defer g.mu.Unlock()
	return GateState{Closed: g.closed, Generation: g.generation, Leases: g.leases, Waiting: g.waiting}
}

// Route is where server connections go since an epoch. Immutable.
type Route struct {
	Epoch    int64  // attempt to change sides that made this route
	Endpoint string // name of the endpoint
}

// Router holds the present route. Safe for concurrent use.
type Router struct {
	mu  sync.Mutex // guards now
	now Route
}

// NewRouter returns a router that holds the given route.
func NewRouter(r Route) *Router { return &Router{now: r} }

// Current returns the present route.
func (r *Router) Current() Route {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// Switch makes a new route. Doing the same switch again is no error; an epoch
// that is older, or the same epoch with another endpoint, is a *StaleError.
func (r *Router) Switch(to Route) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if to == r.now {
		return nil
	}
	if to.Epoch <= r.now.Epoch {
		return &StaleError{Asked: to, Now: r.now}
	}
	r.now = to
	return nil
}

// StaleError says that a route was asked for by an attempt that is over.
type StaleError struct {
	Asked, Now Route
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("route to %s of epoch %d is stale: epoch %d routes to %s",
		e.Asked.Endpoint, e.Asked.Epoch, e.Now.Epoch, e.Now.Endpoint)
}
