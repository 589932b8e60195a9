package side

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"crossfade/proxy/route"
	"crossfade/proxy/typemap"
)

// Bounds of what is asked of a server.
const (
	// ProbeTimeout bounds the silence of a server in a capture. One takes milliseconds; a server
	// that says nothing for so long is cancelled, and given as long again to say so.
	ProbeTimeout = 5 * time.Second
	// ReplayTimeout bounds the replay of one session: hundreds of statements at
	// the round trip of another continent.
	ReplayTimeout = 15 * time.Second
	// GoodbyeTimeout bounds the last message to a client and the wait for that of a server.
	GoodbyeTimeout = 2 * time.Second
)

// Sides are the two databases, and the way to connections there. Safe for concurrent use.
type Sides struct {
	Source, Target Endpoint
	// User and Database, where they are set, are a role and a database, by the clients' names, on
	// whose behalf a side may be asked though no session is there.
	User, Database string
	Router         *route.Router
	Types          TypeStore
	// Misleads reports whether a server of that pid would have a number that clients know as
	// another's.
	Misleads func(pid uint32) bool

	dials  chan struct{} // one for each server connection that is being made
	failed atomic.Int64  // logins that have brought no server

	mu struct {
		sync.Mutex
		types map[string]*typemap.Map // of the target, by the client's name of the database
	}
}

// Limit makes it so that at most that many connections are made at once. It is called first.
func (s *Sides) Limit(dials int) *Sides {
	s.dials = make(chan struct{}, dials)
	if s.Types == nil {
		s.Types = discardTypes{}
	}
	s.mu.types = map[string]*typemap.Map{}
	return s
}

// Endpoint returns the endpoint of that name.
func (s *Sides) Endpoint(name string) (*Endpoint, error) {
	switch name {
	case Source:
		return &s.Source, nil
	case Target:
		return &s.Target, nil
	}
	return nil, fmt.Errorf("endpoint %q is neither %s nor %s", name, Source, Target)
}

// Other returns the side that is not active.
func (s *Sides) Other() *Endpoint {
	if s.Router.Current().Endpoint == Source {
		return &s.Target
	}
	return &s.Source
}

// Place waits for one of the places of those that connect at the same time, and gives it back with
// the function that it returns.
func (s *Sides) Place(ctx context.Context) (done func(), err error) {
	select {
	case s.dials <- struct{}{}:
		return func() { <-s.dials }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
