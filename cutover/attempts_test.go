package cutover

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
	"crossfade/cutover/machine/machinetest"
)

// TestAReportCountsAllAttempts lets one attempt end before the gate is closed, one in the drain and
// one at the fence.
func TestAReportCountsAllAttempts(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
		f.held = Waits{Sessions: 5, P50: time.Second, P99: 2 * time.Second, Max: 2 * time.Second}
		number := 0
		f.hooks["stage"] = func(context.Context) error {
			if number++; number == 1 {
				return fmt.Errorf("%w: a temporary table", ErrHeld)
			}
			return nil
		}
		f.hooks["pause"] = func(ctx context.Context) error {
			timer := time.NewTimer(20 * time.Millisecond)
			<-timer.C
			if number == 2 {
				return fmt.Errorf("%w: a transaction", ErrDrainTimeout)
			}
			return nil
		}
		f.hooks["fence"] = func(context.Context) error {
			if number == 3 {
				return fmt.Errorf("%w: a lock", ErrLockTimeout)
			}
			return nil
		}
	}, func(b *coordinatorFixture) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeSwitched, r.Outcome, r.Reason)
		require.Len(b.t, r.Attempts, 4)
		for i, a := range r.Attempts {
			require.Equal(b.t, i+1, a.Attempt)
			require.Equal(b.t, i == 0, a.ClosedAt.IsZero(), "attempt %d", a.Attempt)
		}
		require.Contains(b.t, r.Attempts[0].Reason, "a temporary table")
		require.Zero(b.t, r.Attempts[0].PauseMS, "nothing was measured")
		require.Zero(b.t, r.Attempts[0].Held.Sessions)
		require.Contains(b.t, r.Attempts[1].Reason, "a transaction")
		require.Equal(b.t, 20.0, r.Attempts[1].PauseMS)
		require.Equal(b.t, HeldReport{Sessions: 5, P50MS: 1000, P99MS: 2000, MaxMS: 2000}, r.Attempts[1].Held)
		require.Contains(b.t, r.Attempts[2].Reason, "a lock")
		require.Equal(b.t, 5, r.Attempts[2].Held.Sessions)
		require.Empty(b.t, r.Attempts[3].Reason)
		require.Equal(b.t, HeldReport{Sessions: 2, P50MS: 1, P99MS: 3, MaxMS: 4}, r.Attempts[3].Held)
		require.Equal(b.t, r.Attempts[3].Held, r.Held)
		require.Equal(b.t, r.Attempts[3].PauseMS, r.PauseMS)
	})
}

// TestAnAbortedRequestTellsWhatClientsWereHeld has no attempt that ends well.
func TestAnAbortedRequestTellsWhatClientsWereHeld(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
		f.held = Waits{Sessions: 1, P50: time.Second, P99: time.Second, Max: time.Second}
		f.hooks["restage"] = func(context.Context) error { return context.Canceled }
	}, func(b *coordinatorFixture) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeAborted, r.Outcome)
		require.Len(b.t, r.Attempts, 1)
		require.Equal(b.t, r.Reason, r.Attempts[0].Reason)
		require.Equal(b.t, HeldReport{Sessions: 1, P50MS: 1000, P99MS: 1000, MaxMS: 1000}, r.Held)
	})
}
