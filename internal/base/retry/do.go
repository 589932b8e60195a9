package retry

import (
	"context"
	"errors"
	"fmt"
	"time"
)

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
	var p permanent
	return errors.As(err, &p)
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
