package netfault

import (
	"sync"
	"time"
)

// Direction is the way that bytes go.
type Direction int

const (
	// ToServer is from the accepted connection to the target.
	ToServer Direction = iota
	// ToClient is from the target to the accepted connection.
	ToClient
)

// Shape is what happens to the bytes of one direction. The zero value lets
// everything through at once.
type Shape struct {
	Delay     time.Duration // one way
	Bandwidth int           // bytes per second over each link; 0 means unlimited
	Stall     bool          // hold everything until lifted
}

// shaper holds the shapes of both directions and tells waiters of a change.
type shaper struct {
	mu      sync.Mutex
	shapes  [2]Shape
	changed chan struct{} // closed and replaced at each change
}

func newShaper() *shaper { return &shaper{changed: make(chan struct{})} }

func (s *shaper) set(d Direction, sh Shape) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shapes[d] = sh
	close(s.changed)
	s.changed = make(chan struct{})
}

// get returns the shape of now and a channel that closes when it changes.
func (s *shaper) get(d Direction) (Shape, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shapes[d], s.changed
}
