package relay

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The clock of these tests is synctest's: it moves when everybody waits.

func TestLimiterKeepsTheRateOverAllWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(1000)
		begin := time.Now()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					require.True(t, l.Wait(t.Context(), 100, nil))
				}
			})
		}
		wg.Wait()
		// 20,000 bytes, of which the last 100 are owed when all have gone.
		require.InDelta(t, 19.9, time.Since(begin).Seconds(), 0.01)
	})
}

func TestLimiterIsFair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(1000)
		ctx, cancel := context.WithCancel(t.Context())
		var got [5]int
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				for l.Wait(ctx, 100, nil) {
					got[i]++
				}
			})
		}
		time.Sleep(20 * time.Second) // of the bubble's clock
		cancel()
		wg.Wait()
		for i, n := range got {
			require.InDelta(t, 40, n, 2, "worker %d", i)
		}
	})
}

func TestLimiterChangesForThoseWhoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(10)
		begin := time.Now()
		require.True(t, l.Wait(t.Context(), 10_000, nil), "a buffer larger than the rate goes as a whole")
		require.Zero(t, time.Since(begin))
		done := make(chan time.Duration)
		go func() {
			l.Wait(t.Context(), 1, nil)
			done <- time.Since(begin)
		}()
		synctest.Wait()
		l.SetRate(10_000)
		require.InDelta(t, 1, (<-done).Seconds(), 0.01, "what is owed is paid at the new rate")

		l.SetRate(0)
		for range 100 {
			require.True(t, l.Wait(t.Context(), 1<<20, nil))
		}
		require.InDelta(t, 1, time.Since(begin).Seconds(), 0.01, "no bound, no wait")
	})
}

func TestLimiterPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(0)
		l.Pause(true)
		require.True(t, l.Paused())
		begin := time.Now()
		done := make(chan time.Duration)
		go func() {
			l.Wait(t.Context(), 1, nil)
			done <- time.Since(begin)
		}()
		time.Sleep(time.Hour) // of the bubble's clock
		l.Pause(false)
		require.Equal(t, time.Hour, <-done)
	})
}

func TestLimiterLetsGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(1)
		require.True(t, l.Wait(t.Context(), 1000, nil))
		ctx, cancel := context.WithCancel(t.Context())
		stop := make(chan struct{})
		first, second := make(chan bool), make(chan bool)
		go func() { first <- l.Wait(ctx, 1, nil) }()
		synctest.Wait()
		go func() { second <- l.Wait(t.Context(), 1, stop) }()
		synctest.Wait()
		close(stop)
		require.False(t, <-second, "one who waits for its turn")
		cancel()
		require.False(t, <-first, "one who waits for the bucket")
		var none *Limiter
		require.True(t, none.Wait(t.Context(), 1<<30, nil))
	})
}
