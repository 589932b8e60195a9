package retry

import (
	"context"
	"iter"
	"time"
)

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
