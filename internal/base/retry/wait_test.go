package retry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/retry"
)

func TestSleepWaitsForTheTimeOrTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		require.NoError(t, retry.Sleep(t.Context(), time.Second))
		require.Equal(t, time.Second, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, retry.Sleep(ctx, time.Hour), context.DeadlineExceeded)
		require.Equal(t, 2*time.Second, time.Since(start))
	})
}

func TestEveryYieldsAfterEachInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		var at []time.Duration
		for now := range retry.Every(ctx, time.Second) {
			at = append(at, now.Sub(start))
		}
		require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}, at)
		require.Error(t, ctx.Err())
		for range retry.Every(t.Context(), time.Second) {
			break
		}
		require.Equal(t, 4500*time.Millisecond, time.Since(start), "leaving the loop ends the wait")
	})
}

func TestPollBeginsAtOnceAndEndsWithItsBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		rounds := 0
		for range retry.PollFor(t.Context(), time.Second, 2500*time.Millisecond) {
			rounds++
		}
		require.Equal(t, 3, rounds)
		require.Equal(t, 2500*time.Millisecond, time.Since(start))
		require.NoError(t, t.Context().Err())

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		rounds = 0
		for range retry.Poll(ctx, time.Second) {
			rounds++
		}
		require.Equal(t, 1, rounds, "a context that has ended still lets the first round be made")

		for range retry.Poll(t.Context(), time.Second) {
			if rounds++; rounds == 4 {
				break
			}
		}
		require.Equal(t, 4500*time.Millisecond, time.Since(start))
	})
}
