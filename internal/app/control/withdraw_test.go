package control_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
)

// withdrawable is a daemon whose cutover goes on until it is withdrawn.
func withdrawable() *daemon {
	return &daemon{asked: make(chan control.CutoverOptions, 1), cutover: func(ctx context.Context) (control.CutoverReport, error) {
		<-ctx.Done()
		return control.CutoverReport{Outcome: control.OutcomeAborted, Reason: context.Cause(ctx).Error()}, nil
	}}
}

func TestACutoverIsWithdrawnWhenItsClientIsLost(t *testing.T) {
	t.Parallel()
	d := withdrawable()
	_, c, _ := serve(t, d)
	ctx := bounded(t)
	asking, leave := context.WithCancel(ctx)
	left := make(chan error, 1)
	go func() {
		_, err := c.Cutover(asking, control.CutoverOptions{})
		left <- err
	}()
	<-d.asked
	leave()
	require.Error(t, <-left)
	require.ErrorIs(t, c.Watch(ctx, func(st control.Status) error {
		if st.Operation == nil {
			return errEnough
		}
		return nil
	}), errEnough)
	last, err := c.LastCutover(ctx)
	require.NoError(t, err)
	require.Equal(t, control.OutcomeAborted, last.Outcome)
	require.Contains(t, last.Reason, "connection of the command that asked for it was lost")
}

func TestACutoverThatIsCancelledTellsBothWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	for _, why := range []struct {
		opt  control.CancelOptions
		says string
	}{
		{control.CancelOptions{}, "withdrawn by crossfade cutover --cancel"},
		{control.CancelOptions{Interrupted: true}, "withdrawn: the command that asked for it was interrupted"},
	} {
		d := withdrawable()
		_, c, _ := serve(t, d)
		ctx := bounded(t)
		_, err := c.CancelCutover(ctx, why.opt)
		require.ErrorContains(t, err, "no cutover is running")
		require.Equal(t, exit.CodeRefused, control.ExitCode(err))
		asked := make(chan control.CutoverReport, 1)
		go func() {
			r, _ := c.Cutover(ctx, control.CutoverOptions{})
			asked <- r
		}()
		<-d.asked
		cancelled, err := c.CancelCutover(ctx, why.opt)
		require.NoError(t, err)
		require.Equal(t, control.OutcomeAborted, cancelled.Outcome)
		require.Equal(t, why.says, cancelled.Reason)
		require.Equal(t, cancelled, <-asked)
	}
}

func TestStepsAreShownAsTheyHappen(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	steps := []control.Event{{Step: "arming", Attempt: 1, At: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)}, {Step: "pausing", Attempt: 1, Detail: "d"}}
	d := &daemon{asked: make(chan control.CutoverOptions, 1), steps: steps, cutover: func(context.Context) (control.CutoverReport, error) {
		<-release
		return control.CutoverReport{Outcome: control.OutcomeSwitched, Timeline: steps}, nil
	}}
	_, c, _ := serve(t, d)
	var shown []control.Event
	r, err := c.CutoverShown(bounded(t), control.CutoverOptions{}, func(e control.Event) {
		if shown = append(shown, e); len(shown) == len(steps) {
			close(release) // it goes on once both have been seen
		}
	})
	require.NoError(t, err)
	require.Equal(t, steps, shown)
	require.Equal(t, control.OutcomeSwitched, r.Outcome)
	require.Equal(t, steps, r.Timeline)
}
