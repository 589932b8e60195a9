package cutover

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
	"crossfade/cutover/machine/machinetest"
)

var errUnwanted = errors.New("withdrawn by the test")

// askToLeave requests in the background, and returns what withdraws the request.
func (b *coordinatorFixture) askToLeave(o Options) (chan answer, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	reply := make(chan answer, 1)
	go func() {
		r, err := b.c.Cutover(ctx, o)
		reply <- answer{r, err}
	}()
	return reply, func() { cancel(errUnwanted) }
}

// TestARequestIsWithdrawnBeforeTheDecision withdraws in every step that has an edge to the undoing,
// with attempts left.
func TestARequestIsWithdrawnBeforeTheDecision(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"claim", "census", "rehearse", "stage", "prelock source", "pause", "fence", "wait_marker", "restage", "persist deciding"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) { f.hooks[name] = hang }, func(b *coordinatorFixture) {
				b.settled()
				reply, leave := b.askToLeave(Options{})
				b.eventually(name)
				began := time.Now()
				leave()
				a := <-reply
				require.NoError(b.t, a.err)
				require.Equal(b.t, machine.OutcomeAborted, a.report.Outcome)
				require.Equal(b.t, errUnwanted.Error(), a.report.Reason)
				require.Less(b.t, time.Since(began), 2*time.Second, "not tried again")
				require.Zero(b.t, b.f.called("decide"))
				w := b.f.world()
				require.Equal(b.t, machine.SideSource, w.Gate)
				require.True(b.t, w.Source)
				require.Equal(b.t, 1, b.c.Status().Last.Timeline[0].Attempt)
			})
		})
	}
}

func TestARequestThatWaitsForItsNextAttemptIsWithdrawn(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
		f.hooks["fence"] = func(context.Context) error { return ErrLockTimeout }
	}, func(b *coordinatorFixture) {
		b.settled()
		reply, leave := b.askToLeave(Options{})
		b.eventually("persist arming") // recorded to be tried again
		leave()
		a := <-reply
		require.NoError(b.t, a.err)
		require.Equal(b.t, machine.OutcomeAborted, a.report.Outcome)
		require.Equal(b.t, errUnwanted.Error(), a.report.Reason)
		require.Equal(b.t, 1, b.f.called("fence"))
	})
}

// TestARequestThatMayBeDecidedIsNotWithdrawn leaves it to the register what becomes of it.
func TestARequestThatMayBeDecidedIsNotWithdrawn(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"decide", "switch"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			left := make(chan struct{})
			inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
				left = make(chan struct{})
				f.hooks[name] = func(context.Context) error { <-left; return nil }
			}, func(b *coordinatorFixture) {
				b.settled()
				reply, leave := b.askToLeave(Options{})
				b.eventually(name)
				leave()
				for !toldWithdraw(b.c.Status().Timeline) {
					timer := time.NewTimer(time.Millisecond)
					<-timer.C
				}
				close(left)
				a := <-reply
				require.NoError(b.t, a.err)
				require.Equal(b.t, machine.OutcomeSwitched, a.report.Outcome)
				require.Equal(b.t, machine.SideTarget, b.f.world().Gate)
			})
		})
	}
}

func toldWithdraw(timeline []Moment) bool {
	for _, m := range timeline {
		if m.Step == "withdraw" {
			return true
		}
	}
	return false
}

func TestStepsAreShownAsTheyHappenWithAttemptAndTime(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
		tries := 0
		f.hooks["fence"] = func(context.Context) error {
			if tries++; tries == 1 {
				return ErrLockTimeout
			}
			return nil
		}
	}, func(b *coordinatorFixture) {
		b.settled()
		shown := make(chan Moment, longestTimeline)
		began := time.Now()
		r, err := b.c.Cutover(b.t.Context(), Options{Show: func(m Moment) { shown <- m }})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeSwitched, r.Outcome)
		require.Len(b.t, shown, len(r.Timeline))
		var attempts [3]int
		at := began
		for _, m := range r.Timeline {
			s := <-shown
			require.Equal(b.t, m.Step, s.Step)
			require.Equal(b.t, m.At, s.At)
			require.False(b.t, m.At.Before(at), "the clock goes on: %+v", m)
			at = m.At
			attempts[m.Attempt]++
		}
		require.Zero(b.t, attempts[0], "each entry has its attempt")
		require.NotZero(b.t, attempts[1])
		require.NotZero(b.t, attempts[2])
	})
}
