package poll

import "time"

const (
	// spinTime is how long a worker busy-polls before it sleeps: as long as a server takes for a
	// simple query by key, and a client for its next one.
	spinTime = 150 * time.Microsecond
	// soloTurns is how many turns in a row a session must have before it counts as the only one.
	soloTurns = 8
	// spinLuck is how many successful polls are remembered.
	spinLuck = 4
	// spinRetry is how many waits pass between two attempts while busy-polling does not pay off.
	spinRetry = 64
)

// spin decides whether to busy-poll, by whether it paid off before: if fewer than two of three
// busy-polls found something, it is tried only once in spinRetry waits. So the time lost is at most
// half of the time well spent. Not safe for concurrent use.
type spin struct {
	luck  int
	waits int
}

// worth reports whether to busy-poll in this wait.
func (s *spin) worth() bool {
	if s.luck > 0 {
		return true
	}
	s.waits++
	return s.waits%spinRetry == 0
}

// note records whether it has paid off, and returns that.
func (s *spin) note(paid bool) bool {
	if paid {
		s.luck = min(s.luck+1, spinLuck)
	} else {
		s.luck = max(s.luck-2, 0)
	}
	return paid
}
