package cutover

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
	"crossfade/cutover/machine/machinetest"
)

func TestAnAmbiguousDecisionFollowsTheRegister(t *testing.T) {
	t.Parallel()
	lost := func(context.Context) error { return fmt.Errorf("commit: %w", ErrOutcomeUnknown) }
	t.Run("committed", func(t *testing.T) {
		t.Parallel()
		inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) { f.after["decide"] = lost }, func(b *coordinatorFixture) {
			b.settled()
			r, err := b.c.Cutover(b.t.Context(), Options{})
			require.NoError(b.t, err)
			require.Equal(b.t, machine.OutcomeSwitched, r.Outcome)
			require.Equal(b.t, machine.SideTarget, b.f.world().Gate)
		})
	})
	t.Run("not committed", func(t *testing.T) {
		t.Parallel()
		inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) { f.hooks["decide"] = lost }, func(b *coordinatorFixture) {
			b.settled()
			r, err := b.c.Cutover(b.t.Context(), Options{})
			require.NoError(b.t, err)
			require.Equal(b.t, machine.OutcomeAborted, r.Outcome)
			require.Contains(b.t, r.Reason, "not known")
			require.Equal(b.t, machine.VerdictAbort, b.f.world().Register)
			require.True(b.t, b.f.before("reject", "unfence"))
		})
	})
	t.Run("target away", func(t *testing.T) {
		t.Parallel()
		inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
			f.after["decide"] = lost
			f.hooks["decision"] = func(context.Context) error { return errors.New("connection refused") }
		}, func(b *coordinatorFixture) {
			b.settled()
			reply := b.ask(Options{})
			b.eventually("decision")
			timer := time.NewTimer(time.Minute)
			<-timer.C
			require.Greater(b.t, b.f.called("decision"), 5)
			require.Contains(b.t, b.c.Status().Waiting, "not known whether the decision was committed")
			told := 0
			for _, m := range b.c.Status().Timeline {
				if m.Step == "decision" {
					told++
				}
			}
			require.LessOrEqual(b.t, told, 3, "what repeats itself is told once a minute")
			require.Zero(b.t, b.f.called("unfence"))
			require.Equal(b.t, machine.Side(""), b.f.world().Gate)
			b.stop()
			require.ErrorIs(b.t, <-b.ran, ErrUndecided)
			a := <-reply
			require.ErrorIs(b.t, a.err, ErrUndecided)
			require.True(b.t, a.report.Incomplete)
		})
	})
}

// TestAStartEndsWhatAnEarlierProcessBegan starts in every step that a journal can show.
func TestAStartEndsWhatAnEarlierProcessBegan(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		step     machine.StepName
		register machine.Verdict
		fenced   bool
		ends     machine.StepName
	}{
		{machine.Following, machine.VerdictAbsent, false, machine.Following},
		{machine.Idle, machine.VerdictAbsent, false, machine.Idle},
		{machine.Arming, machine.VerdictAbsent, false, machine.Idle},
		{machine.Pausing, machine.VerdictAbsent, false, machine.Idle},
		{machine.Fenced, machine.VerdictAbsent, true, machine.Idle},
		{machine.Draining, machine.VerdictAbsent, true, machine.Idle},
		{machine.Deciding, machine.VerdictAbsent, true, machine.Idle},
		{machine.Deciding, machine.VerdictAbort, true, machine.Idle},
		{machine.Deciding, machine.VerdictCommit, true, machine.Decided},
		{machine.Decided, machine.VerdictCommit, true, machine.Decided},
	} {
		t.Run(fmt.Sprintf("%s/%s", c.step, c.register), func(t *testing.T) {
			t.Parallel()
			w := machinetest.Following()
			w.Epoch, w.Step, w.Register = 1, c.step, c.register
			w.Source, w.Target = !c.fenced, c.register == machine.VerdictCommit
			inBubble(t, w, machine.DefaultLimits(), nil, func(b *coordinatorFixture) {
				b.settled()
				synctest.Wait()
				end := b.f.world()
				require.Equal(b.t, c.ends, end.Step)
				require.Equal(b.t, b.c.Status().Active, end.Gate)
				require.Equal(b.t, c.ends == machine.Decided, end.Gate == machine.SideTarget)
				require.Equal(b.t, c.ends != machine.Decided, end.Source)
			})
		})
	}
}

func TestAStartOpensNothingWithoutTheJournal(t *testing.T) {
	t.Parallel()
	away := func(context.Context) error { return errors.New("connection refused") }
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) { f.hooks["take"] = away }, func(b *coordinatorFixture) {
		b.eventually("take")
		timer := time.NewTimer(time.Minute)
		<-timer.C
		require.Equal(b.t, machine.Side(""), b.f.world().Gate, "opened without the word of a database")
		require.Empty(b.t, b.c.Status().Active)
		b.stop()
		require.NoError(b.t, <-b.ran, "a start that found nothing to undo may be stopped")
	})
}

func TestATripAborts(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) { f.hooks["restage"] = hang }, func(b *coordinatorFixture) {
		b.settled()
		reply := b.ask(Options{})
		b.eventually("restage")
		b.f.trips <- Trip{Epoch: 99, Detail: "of another epoch"}
		b.f.trips <- Trip{Epoch: 1, Detail: "transaction 4711"}
		a := <-reply
		require.NoError(b.t, a.err)
		require.Equal(b.t, machine.OutcomeAborted, a.report.Outcome)
		require.Contains(b.t, a.report.Reason, "transaction 4711")
		require.Contains(b.t, b.c.Status().Alarm, "4711")
	})
}
