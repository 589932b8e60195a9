package retry

import (
	"context"
	"time"
)

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
