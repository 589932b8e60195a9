package poll

import "time"

const (
	// spinTime is how long an engine looks on before it lets itself be put to sleep: as
	// long as a server takes for a query by key, unprepared, and a client for its next one.
	spinTime = 150 * time.Microsecond
	// lonely is how many turns a session has in a row where it is the only one.
	soloTurns = 8
	// spinLuck is how many looks that paid are remembered.
	spinLuck = 4
	// spinRetry is how many waits are between two tries where it does not pay.
	spinRetry = 64
)

// spin decides whether looking on pays, by whether it did: where fewer than two of
// three looks bring something, it is tried once in spinRetry waits. So what is looked in
// vain is at most half of what is looked with success. Not safe for concurrent use.
type spin struct {
	luck  int
	waits int
}

// worth reports whether to look on in this wait.
func (s *spin) worth() bool {
	if s.luck > 0 {
		return true
	}
	s.waits++
	return s.waits%spinRetry == 0
}

// note takes in whether it has paid, and returns that.
func (s *spin) note(paid bool) bool {
	if paid {
		s.luck = min(s.luck+1, spinLuck)
	} else {
		s.luck = max(s.luck-2, 0)
	}
	return paid
}
