package retry_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/retry"
)

var errPassing = errors.New("connection refused")

func TestDoReturnsAtTheFirstSuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		err := retry.Do(t.Context(), retry.Policy{}, func(context.Context) error {
			calls++
			if calls < 4 {
				return errPassing
			}
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, 4, calls)
	})
}

func TestPausesGrowWithJitterUpToTheMaximum(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []retry.Attempt
		p := retry.Policy{Initial: 100 * time.Millisecond, Max: time.Second, MaxAttempts: 8}
		p.OnRetry = func(a retry.Attempt) { got = append(got, a) }
		start := time.Now()
		err := retry.Do(t.Context(), p, func(context.Context) error { return errPassing })
		require.ErrorIs(t, err, errPassing)
		require.ErrorContains(t, err, "give up after 8 attempts")

		nominal := []time.Duration{100, 200, 400, 800, 1000, 1000, 1000}
		require.Len(t, got, len(nominal))
		var sum time.Duration
		for i, a := range got {
			full := nominal[i] * time.Millisecond
			require.GreaterOrEqual(t, a.Pause, full/2)
			require.LessOrEqual(t, a.Pause, full)
			require.Equal(t, i+1, a.Number)
			require.Equal(t, sum, a.Elapsed)
			sum += a.Pause
		}
		require.Equal(t, sum, time.Since(start), "Do waits exactly the pauses that it announced")
	})
}

func TestPermanentEndsAtOnceAndKeepsItsText(t *testing.T) {
	t.Parallel()
	calls := 0
	err := retry.Do(t.Context(), retry.Policy{}, func(context.Context) error {
		calls++
		return retry.Permanent(io.ErrUnexpectedEOF)
	})
	require.Equal(t, 1, calls)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, io.ErrUnexpectedEOF.Error(), err.Error())
	require.True(t, retry.IsPermanent(err))
	require.NoError(t, retry.Permanent(nil))
}

func TestMaxElapsedStartsNoAttemptTooLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p := retry.Policy{Initial: time.Second, Max: time.Second, MaxElapsed: 10 * time.Second}
		err := retry.Do(t.Context(), p, func(context.Context) error { return errPassing })
		require.ErrorIs(t, err, errPassing)
		require.LessOrEqual(t, time.Since(start), 10*time.Second)
		require.Greater(t, time.Since(start), 8*time.Second)
	})
}

func TestContextEndsThePauseAndBothErrorsAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("daemon stops")
		ctx, cancel := context.WithCancelCause(t.Context())
		p := retry.Policy{Initial: time.Hour, Max: time.Hour}
		p.OnRetry = func(retry.Attempt) { cancel(stop) }
		start := time.Now()
		err := retry.Do(ctx, p, func(context.Context) error { return errPassing })
		require.ErrorIs(t, err, stop)
		require.ErrorIs(t, err, errPassing)
		require.Zero(t, time.Since(start))
	})
}

func TestEndedContextRunsNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := retry.Do(ctx, retry.Policy{}, func(context.Context) error {
		t.Error("called after the context ended")
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, retry.Policy{}.Validate())
	require.NoError(t, retry.Policy{Initial: time.Minute}.Validate(), "a long first pause raises the default maximum")
	require.NoError(t, retry.Policy{Max: time.Millisecond}.Validate(), "a short maximum lowers the default first pause")
	for _, p := range []retry.Policy{
		{Initial: -1},
		{MaxAttempts: -1},
		{Factor: 0.5},
		{Initial: 2 * time.Second, Max: time.Second},
	} {
		require.Error(t, p.Validate())
		require.Error(t, retry.Do(t.Context(), p, func(context.Context) error { return nil }))
	}
}
