package retry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/retry"
)

func TestLimitedSpeaksOnceAMinuteWithACount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var attempts, suppressed []int
		p := retry.Policy{Initial: 10 * time.Second, Max: 10 * time.Second, MaxElapsed: 3 * time.Minute}
		p.OnRetry = retry.Limited(func(a retry.Attempt, n int) {
			attempts = append(attempts, a.Number)
			suppressed = append(suppressed, n)
		})
		err := retry.Do(t.Context(), p, func(context.Context) error { return errPassing })
		require.Error(t, err)

		require.Equal(t, 1, attempts[0], "the first failure is told at once")
		require.Zero(t, suppressed[0])
		require.GreaterOrEqual(t, len(attempts), 3)
		require.LessOrEqual(t, len(attempts), 4)
		for i := 1; i < len(attempts); i++ {
			require.Equal(t, attempts[i]-attempts[i-1]-1, suppressed[i], "the count is what was kept back")
			require.GreaterOrEqual(t, suppressed[i], 5)
		}
	})
}
