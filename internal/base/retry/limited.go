package retry

import (
	"sync"
	"time"
)

// LogInterval is how often a failure that repeats is worth a line: often
// enough to be seen, rarely enough not to fill a disk in a long outage.
const LogInterval = time.Minute

// Limited returns a callback for Policy.OnRetry that passes the first failure on at once and then
// at most one in LogInterval. suppressed is how many were kept back since the last that was passed
// on. The callback is safe for concurrent use, and say is called by one goroutine at a time.
func Limited(say func(a Attempt, suppressed int)) func(Attempt) {
	var (
		mu         sync.Mutex
		spoken     bool
		last       time.Time
		suppressed int
	)
	return func(a Attempt) {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		if spoken && now.Sub(last) < LogInterval {
			suppressed++
			return
		}
		spoken, last = true, now
		n := suppressed
		suppressed = 0
		say(a, n)
	}
}
