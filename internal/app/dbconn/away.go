package dbconn

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

// openPatience is how long a beginning waits for a database that had let it in
// and went away: longer than a compute needs to wake, or a server to restart.
const openPatience = time.Minute

// WhileAway repeats a start that a database interrupted after it had accepted the login: it
// restarts, or its compute was suspended. An error before that, such as an address where no server
// listens, ends the start at once.
func WhileAway(ctx context.Context, log zerolog.Logger, begin func(ctx context.Context, letIn func()) error) error {
	in := false
	policy := retry.Policy{MaxElapsed: openPatience, OnRetry: obs.Retrying(log, "a database went away in the beginning; it begins again")}
	return retry.Do(ctx, policy, func(ctx context.Context) error {
		err := begin(ctx, func() { in = true })
		if err != nil && (!in || !pg.ConnectionLost(err)) {
			return retry.Permanent(err)
		}
		return err
	})
}
