package route

import (
	"fmt"
	"sync"
)

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
