package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/retry"
)

// A session that came further, or that lasted, does not use up the bounds of the policy.
func TestSessionsBeginAgainAfterOneThatWasOfUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := errors.New("ended for good")
		told, n := 0, 0
		p := retry.Policy{Initial: time.Second, Max: time.Second, MaxAttempts: 2}
		err := retry.Sessions(t.Context(), p, func(err error) {
			require.ErrorIs(t, err, errPassing)
			told++
		}, func(ctx context.Context) (bool, error) {
			n++
			switch n {
			case 1, 3, 5: // each the first of two
				return false, errPassing
			case 2:
				return true, errPassing
			case 4:
				return false, errors.Join(retry.Sleep(ctx, time.Minute), errPassing)
			}
			return true, retry.Permanent(ended)
		})
		require.ErrorIs(t, err, ended)
		require.Equal(t, 6, n)
		require.Equal(t, 2, told)
	})
}

func TestSessionsEndWithTheirBoundsAndTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fails := func(context.Context) (bool, error) { return false, errPassing }
		silent := func(error) { t.Error("told of a session that was of no use") }
		require.ErrorIs(t, retry.Sessions(t.Context(), retry.Policy{MaxAttempts: 3}, silent, fails), errPassing)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.Equal(t, context.DeadlineExceeded, retry.Sessions(ctx, retry.Policy{}, silent, fails))
	})
}
