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

func TestHeldSessionsAreWaitedForInNewAttempts(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
		f.hooks["stage"] = func(context.Context) error {
			if f.called("stage") < 3 {
				return fmt.Errorf("%w: session 7", ErrHeld)
			}
			return nil
		}
	}, func(b *coordinatorFixture) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{Unmovable: machine.UnmovableWait})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeSwitched, r.Outcome)
		require.Equal(b.t, 3, b.f.called("stage"))
		for _, p := range b.f.policies {
			require.Equal(b.t, machine.StagePolicy{Unmovable: machine.UnmovableWait, Wait: 2 * time.Second}, p)
		}
		named := 0
		for _, m := range r.Timeline {
			if m.Step == "backoff" {
				require.Contains(b.t, m.Detail, "session 7")
				named++
			}
		}
		require.Equal(b.t, 2, named, "they are named while they are waited for")
		require.Zero(b.t, r.Disconnected)
	})
}

func TestHeldSessionsAreNotWaitedForWithoutEnd(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
		f.hooks["pause"] = func(context.Context) error { return fmt.Errorf("%w: session 7", ErrHeld) }
	}, func(b *coordinatorFixture) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{Unmovable: machine.UnmovableWait, Limits: machine.Limits{Attempts: 2}})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeAborted, r.Outcome)
		require.Contains(b.t, r.Reason, "session 7")
		require.Contains(b.t, r.Reason, "tried 2 times")
		require.True(b.t, b.f.world().Source)
	})
}

func TestDisconnectedSessionsAreReported(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) { f.unmovable = []string{"session 7: temporary objects"} }, func(b *coordinatorFixture) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{Rehearse: true, Unmovable: machine.UnmovableDisconnect})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeRehearsed, r.Outcome)
		require.Equal(b.t, machine.UnmovableName, b.f.policies[0].Unmovable, "a rehearsal closes nobody")
		require.Zero(b.t, r.Disconnected)
		require.Equal(b.t, b.f.unmovable, r.Unmovable)
		require.Contains(b.t, joined(r.Notes), "would be disconnected")

		r, err = b.c.Cutover(b.t.Context(), Options{Unmovable: machine.UnmovableDisconnect})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeSwitched, r.Outcome)
		require.Equal(b.t, 1, r.Disconnected)
		require.Equal(b.t, b.f.unmovable, r.Unmovable)
		require.Zero(b.t, r.ClientErrors)
		require.Contains(b.t, joined(r.Notes), "DISCONNECTED")
		require.Contains(b.t, joined(r.Notes), "session 7")
	})
}

func TestAPolicyThatNobodyKnowsIsRefused(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), nil, func(b *coordinatorFixture) {
		b.settled()
		for _, u := range []machine.Unmovable{"other", machine.UnmovableName} {
			_, err := b.c.Cutover(b.t.Context(), Options{Unmovable: u})
			var no *RefusedError
			require.ErrorAs(b.t, err, &no)
		}
		_, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.UnmovableAbort, b.f.policies[0].Unmovable)
	})
}

// TestClientsThatWereEndedAreCountedInWhateverAttempt: by whom and when does not matter, nor
// what became of the attempt.
func TestClientsThatWereEndedAreCountedInWhateverAttempt(t *testing.T) {
	t.Parallel()
	ends := func(f *fake, who string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ended = append(f.ended, who)
	}
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
		ends(f, "of an earlier request")
		f.hooks["pause"] = func(context.Context) error {
			ends(f, "in a pause")
			return fmt.Errorf("%w: session 7", ErrDrainTimeout)
		}
	}, func(b *coordinatorFixture) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{Limits: machine.Limits{Attempts: 2}})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeAborted, r.Outcome)
		require.Equal(b.t, 2, r.ClientErrors)
		require.Contains(b.t, joined(r.Notes), "2 clients were ended in an attempt: ")
		require.Contains(b.t, r.Ended, "in a pause")

		delete(b.f.hooks, "pause")
		b.f.hooks["decide"] = func(context.Context) error { ends(b.f, "while the target decided"); return nil }
		r, err = b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeSwitched, r.Outcome)
		require.Equal(b.t, 1, r.ClientErrors)
	})
}
