package netfault

import (
	"math"
	"sync"
	"sync/atomic"
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
	Shared    int           // bytes per second over all links together; 0 means unlimited
	Loss      float64       // share of segments that are lost, from 0 to 1
	Stall     bool          // hold everything until lifted
}

// shaper holds the shapes of both directions and tells waiters of a change.
type shaper struct {
	mu      sync.Mutex
	shapes  [2]Shape
	changed chan struct{} // closed and replaced at each change
	free    [2]time.Time  // when the shared bandwidth has room again
	passed  [2]atomic.Int64
}

func newShaper() *shaper { return &shaper{changed: make(chan struct{})} }

func (s *shaper) set(d Direction, sh Shape) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shapes[d] = sh
	close(s.changed)
	s.changed = make(chan struct{})
}

const (
	// segment is what TCP puts into one packet of Ethernet.
	segment = 1460
	// leastRepair is what a lost segment costs where no delay is set: TCP does not
	// send it again sooner than it hears of the ones after it.
	leastRepair = 5 * time.Millisecond
)

// repair is how long n bytes are held up by losses among them, given a random
// number from 0 to 1: a round trip, until the lost segment has been sent again.
func (s Shape) repair(n int, chance float64) time.Duration {
	segments := float64((n + segment - 1) / segment)
	if s.Loss <= 0 || chance >= 1-math.Pow(1-s.Loss, segments) {
		return 0
	}
	return max(2*s.Delay, leastRepair)
}

// reserve takes the next place for n bytes on the shared bandwidth and returns
// when the last of them has left, now if there is no bound.
func (s *shaper) reserve(d Direction, n int) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.shapes[d].Shared <= 0 {
		s.free[d] = now
		return now
	}
	if s.free[d].Before(now) {
		s.free[d] = now
	}
	s.free[d] = s.free[d].Add(time.Duration(n) * time.Second / time.Duration(s.shapes[d].Shared))
	return s.free[d]
}

// get returns the shape of now and a channel that closes when it changes.
func (s *shaper) get(d Direction) (Shape, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shapes[d], s.changed
}
