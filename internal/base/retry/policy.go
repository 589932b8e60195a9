package retry

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// DefaultInitial is short, since most cuts of a connection are over at once.
	DefaultInitial = 100 * time.Millisecond
	// DefaultMax keeps the time between the end of an outage and the next
	// attempt below what an operator would notice.
	DefaultMax = 5 * time.Second
	// DefaultFactor doubles the pause each time.
	DefaultFactor = 2
)

// Attempt describes one failure to a Policy's OnRetry.
type Attempt struct {
	Number  int           // of the attempt that failed, from 1
	Err     error         // what it returned
	Pause   time.Duration // until the next attempt
	Elapsed time.Duration // since Do was called
}

// Policy says how often and how long Do tries. The zero value uses the
// defaults and is bounded by the context alone.
type Policy struct {
	Initial     time.Duration // pause after the first failure; DefaultInitial if 0
	Max         time.Duration // longest pause; DefaultMax if 0
	Factor      float64       // growth of the pause; DefaultFactor if 0
	MaxAttempts int           // 0: no bound
	MaxElapsed  time.Duration // no attempt starts later than this; 0: no bound

	// OnRetry, if set, is called before each pause, on Do's goroutine.
	OnRetry func(Attempt)
}

// Validate refuses a policy whose numbers contradict one another.
func (p Policy) Validate() error {
	p = p.withDefaults()
	switch {
	case p.Initial < 0 || p.Max < 0 || p.MaxElapsed < 0 || p.MaxAttempts < 0:
		return errors.New("retry policy: negative bound")
	case p.Factor < 1:
		return fmt.Errorf("retry policy: factor %v, want at least 1", p.Factor)
	case p.Initial > p.Max:
		return fmt.Errorf("retry policy: initial pause %s is longer than the longest pause %s", p.Initial, p.Max)
	}
	return nil
}

func (p Policy) withDefaults() Policy {
	if p.Max == 0 {
		p.Max = max(DefaultMax, p.Initial)
	}
	if p.Initial == 0 {
		p.Initial = min(DefaultInitial, p.Max)
	}
	p.Factor = cmp.Or(p.Factor, DefaultFactor)
	return p
}

// pause returns the pause after the given failure (from 1), between half of
// the nominal pause and the whole of it.
func (p Policy) pause(failure int) time.Duration {
	nominal := float64(p.Initial)
	for range failure - 1 {
		nominal *= p.Factor
		if nominal >= float64(p.Max) {
			nominal = float64(p.Max)
			break
		}
	}
	whole := time.Duration(nominal)
	half := whole / 2
	return half + rand.N(whole-half+1)
}
