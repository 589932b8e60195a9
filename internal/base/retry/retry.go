package retry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
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

type permanent struct{ err error }

func (p permanent) Error() string { return p.err.Error() }
func (p permanent) Unwrap() error { return p.err }

// Permanent marks an error that another attempt cannot fix. The text stays the same and errors.Is
// and errors.As see through the mark. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent tells whether err, or an error that it wraps, was marked.
func IsPermanent(err error) bool {
	return errors.As(err, new(permanent))
}

// Do calls fn until it returns nil, an error marked Permanent, or a bound of
// the policy or of the context is reached.
//
// A permanent error is returned as fn returned it, with its mark, so that an outer Do ends too.
// When the context ends, the error wraps both the context's cause and the last error of fn. fn runs
// on the caller's goroutine; Do starts none.
func Do(ctx context.Context, p Policy, fn func(context.Context) error) error {
	if err := p.Validate(); err != nil {
		return err
	}
	p = p.withDefaults()
	start := time.Now()
	var last error
	for n := 1; ; n++ {
		if ctx.Err() != nil {
			return ended(ctx, last)
		}
		last = fn(ctx)
		switch {
		case last == nil:
			return nil
		case IsPermanent(last):
			return last
		case ctx.Err() != nil:
			return ended(ctx, last)
		case p.MaxAttempts != 0 && n >= p.MaxAttempts:
			return fmt.Errorf("give up after %d attempts: %w", n, last)
		}
		pause := p.pause(n)
		elapsed := time.Since(start)
		if p.MaxElapsed != 0 && elapsed+pause > p.MaxElapsed {
			return fmt.Errorf("give up after %s and %d attempts: %w", elapsed.Round(time.Millisecond), n, last)
		}
		if p.OnRetry != nil {
			p.OnRetry(Attempt{Number: n, Err: last, Pause: pause, Elapsed: elapsed})
		}
		_ = Sleep(ctx, pause) // the next round sees the end of ctx
	}
}

func ended(ctx context.Context, last error) error {
	cause := context.Cause(ctx)
	switch {
	case last == nil:
		return cause
	case errors.Is(last, cause):
		return last
	default:
		return fmt.Errorf("%w: %w", cause, last)
	}
}

// steadyAfter is how long a session must last for the next failure to count as the first.
const steadyAfter = 5 * time.Second

// Sessions runs one session after another until ctx ends, whose error it returns then, or until an
// error that Do returns. session reports whether it came further than those before it: after one
// that did, or that lasted, broken is told of its error, and the pauses and bounds of the policy
// begin again.
func Sessions(ctx context.Context, p Policy, broken func(error), session func(context.Context) (further bool, err error)) error {
	for {
		err := Do(ctx, p, func(ctx context.Context) error {
			begun := time.Now()
			further, err := session(ctx)
			if err != nil && !IsPermanent(err) && ctx.Err() == nil && (further || time.Since(begun) > steadyAfter) {
				broken(err)
				return nil
			}
			return err
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

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

// Sleep waits for d and returns nil, or returns the error of ctx if that ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Every yields the time after each d until ctx ends. A round that takes longer than d is followed
// by the next at once, and the rounds that it missed are left out.
func Every(ctx context.Context, d time.Duration) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				if !yield(now) {
					return
				}
			}
		}
	}
}

// Poll yields at once and then after each d until ctx ends. The first round is made even if ctx has
// ended, so that what is waited for may be there already.
func Poll(ctx context.Context, d time.Duration) iter.Seq[struct{}] {
	return poll(ctx, d, nil)
}

// PollFor is Poll that also ends when patience has passed. It is for rounds that a context with
// that bound would break off: ctx.Err() tells afterwards which of the two ended it.
func PollFor(ctx context.Context, d, patience time.Duration) iter.Seq[struct{}] {
	return func(yield func(struct{}) bool) {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		poll(ctx, d, timer.C)(yield)
	}
}

func poll(ctx context.Context, d time.Duration, late <-chan time.Time) iter.Seq[struct{}] {
	return func(yield func(struct{}) bool) {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for yield(struct{}{}) {
			select {
			case <-ctx.Done():
				return
			case <-late:
				return
			case <-tick.C:
			}
		}
	}
}
