package cutover

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
	"crossfade/cutover/machine/machinetest"
)

// blockedCoordinator runs a test with a coordinator that obstacles from outside block.
func blockedCoordinator(t *testing.T, w machinetest.World, found []machine.Obstacle, test func(*coordinatorFixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(w)
		c, err := New(Config{Journal: f, Traffic: f, Forward: f.ports(), Limits: machine.DefaultLimits(), Log: zerolog.Nop(), Blocked: func(machine.Direction) []machine.Obstacle { return found }})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		b := &coordinatorFixture{t: t, f: f, c: c, stop: cancel, ran: make(chan error, 1)}
		go func() { b.ran <- c.Run(ctx) }()
		defer func() {
			cancel()
			<-c.ended
		}()
		b.settled()
		test(b)
	})
}

var inTheWay = []machine.Obstacle{{Code: "stream_begins", Detail: "the stream of changes does not run yet", Remedy: "wait"}}

func TestARefusalSaysThePhaseFirst(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, says string
		w          machinetest.World
	}{
		{"on the target", "the target is active already (epoch 1)", machinetest.OnTarget()},
		{"copying", "the copy has not ended yet (step copying)", machinetest.World{Direction: machine.Forward, Step: machine.Copying, Source: true, Claimed: 1}},
		{"finished", "the migration is finished", machinetest.World{Epoch: 1, Direction: machine.Forward, Step: machine.Finished, Target: true, Claimed: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			blockedCoordinator(t, c.w, inTheWay, func(b *coordinatorFixture) {
				for _, dry := range []bool{false, true} {
					_, err := b.c.Cutover(b.t.Context(), Options{DryRun: dry})
					var no *RefusedError
					require.ErrorAs(b.t, err, &no)
					require.Len(b.t, no.Obstacles, 1, "nothing else is said")
					require.Equal(b.t, c.says, no.Obstacles[0].Detail)
					require.NotEmpty(b.t, no.Obstacles[0].Remedy)
				}
			})
		})
	}
	blockedCoordinator(t, machinetest.Following(), inTheWay, func(b *coordinatorFixture) {
		_, err := b.c.Cutover(b.t.Context(), Options{})
		var no *RefusedError
		require.ErrorAs(b.t, err, &no)
		require.Equal(b.t, inTheWay, no.Obstacles)
	})
}

func TestAnAttemptThatCameToNothingLeavesTheRunFollowing(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) { f.hooks["stage"] = func(context.Context) error { return context.Canceled } }, func(b *coordinatorFixture) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeAborted, r.Outcome)
		require.Equal(b.t, machine.Idle, b.f.world().Step)
		require.Equal(b.t, "following", b.c.Status().Phase)
		require.True(b.t, b.c.Status().Ready)
	})
}

func TestADryRunTellsAllThatTheCutoverWouldMeet(t *testing.T) {
	t.Parallel()
	blockedCoordinator(t, machinetest.Following(), inTheWay, func(b *coordinatorFixture) {
		b.f.sessionsReport = SessionsReport{Sessions: 3, Red: []string{"session 1: red"}, Holding: []string{"session 2: temporary table"}}
		b.f.census = Census{Tables: 1000, Bypass: []Writer{{PID: 7, User: "cron", Application: "nightly", Address: "local"}}, Transactions: []string{"process 8"},
			RoundTrips: [2]time.Duration{time.Millisecond, 10 * time.Millisecond}}
		r, err := b.c.Cutover(b.t.Context(), Options{DryRun: true})
		require.NoError(b.t, err)
		require.Equal(b.t, inTheWay, r.Blockers)
		require.Contains(b.t, r.Reason, inTheWay[0].Detail)
		require.Contains(b.t, r.Reason, "2 sessions cannot be moved")
		require.Equal(b.t, []string{"session 1: red", "session 2: temporary table"}, r.Unmovable)
		require.Equal(b.t, []string{"process 8"}, r.Transactions)
		require.Equal(b.t, []string{`pid 7 (user cron, application "nightly", address local)`}, r.Bypass)
		require.InDelta(b.t, 20+13+70+40+60, r.EstimateLeastMS, 1)
		require.InDelta(b.t, 1000+3*(13+70+40+60)+b.f.lag.Delay.Seconds()*1000, r.EstimateMostMS, 1, "what is not known is in the range")
		require.Empty(b.t, r.Attempts)
	})
	blockedCoordinator(t, machinetest.Following(), nil, func(b *coordinatorFixture) {
		b.f.sessionsReport = SessionsReport{Holding: []string{"session 2: temporary table"}}
		for policy, refuses := range map[machine.Unmovable]bool{machine.UnmovableAbort: true, machine.UnmovableWait: false, machine.UnmovableDisconnect: false} {
			r, err := b.c.Cutover(b.t.Context(), Options{DryRun: true, Unmovable: policy})
			require.NoError(b.t, err)
			require.Equal(b.t, refuses, r.Reason != "", policy)
			synctest.Wait()
		}
	})
}

func TestACutoverWhileTheStreamLagsSaysSo(t *testing.T) {
	t.Parallel()
	for name, lag := range map[string]Lag{"bytes": {Bytes: 1 << 30}, "time": {Bytes: 10, Delay: time.Minute}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) { f.lag = lag }, func(b *coordinatorFixture) {
				b.settled()
				r, err := b.c.Cutover(b.t.Context(), Options{Limits: machine.Limits{Attempts: 2}})
				require.NoError(b.t, err)
				require.Equal(b.t, machine.OutcomeAborted, r.Outcome)
				require.Contains(b.t, r.Reason, "the stream is ")
				require.Contains(b.t, r.Reason, " behind")
				require.Contains(b.t, r.Reason, "tried 2 times")
				require.Zero(b.t, b.f.called("pause"))
				require.Zero(b.t, b.f.called("rehearse"))
			})
		})
	}
}

// Whatever the step, a refusal says what is the matter and what to do, and no cutover is refused
// when that has been waited for.
func TestEachStepThatRefusesSaysWhatToDo(t *testing.T) {
	t.Parallel()
	ready := machine.State{Direction: machine.Forward, Step: machine.Following, Phase: machine.PhaseRest, Settled: true}
	require.Nil(t, ready.RefuseCutover(machine.Forward))
	switched := machine.State{Direction: machine.Forward, Step: machine.Decided, Phase: machine.PhaseComplete, Settled: true, WayBack: true}
	require.Nil(t, switched.RefuseCutover(machine.Reverse), "what follows a switch may take hours: the way back does not wait for it")
	with := func(change func(*machine.State)) machine.State {
		s := ready
		change(&s)
		return s
	}
	for name, x := range map[string]struct {
		state          machine.State
		direction      machine.Direction
		detail, remedy string
	}{
		"it is stopped":           {with(func(s *machine.State) { s.Stopping = true }), machine.Forward, "is being stopped", "start it again"},
		"it was just started":     {with(func(s *machine.State) { s.Settled, s.Phase = false, machine.PhaseStart }), machine.Forward, "waits for the journal to be read", "wait: crossfade status shows the phase"},
		"an attempt is undone":    {with(func(s *machine.State) { s.Phase, s.Step = machine.PhaseUndo, machine.Pausing }), machine.Forward, "an earlier attempt is being undone: waiting for ", "wait until crossfade status says following"},
		"it is finished":          {with(func(s *machine.State) { s.Step = machine.Finished }), machine.Forward, "the migration is finished", "point the applications at the target"},
		"the target is active":    {with(func(s *machine.State) { s.Step, s.Epoch = machine.Decided, 7 }), machine.Forward, "the target is active already (epoch 7)", "crossfade finish ends the migration"},
		"a step is recorded":      {with(func(s *machine.State) { s.Phase, s.Recording = machine.PhaseAdvance, machine.Following }), machine.Forward, "step following is being recorded", "ask again in a moment"},
		"an attempt is under way": {with(func(s *machine.State) { s.Phase, s.Step, s.Epoch = machine.PhaseStage, machine.Arming, 3 }), machine.Forward, "an attempt is under way (step arming, epoch 3)", "crossfade cutover --cancel"},
		"rows are copied":         {with(func(s *machine.State) { s.Step = machine.Copying }), machine.Forward, "the copy has not ended yet (step copying)", "wait until crossfade status says following"},
		"it catches up":           {with(func(s *machine.State) { s.Step = machine.CatchingUp }), machine.Forward, "the copy has not ended yet (step catching_up)", "wait until crossfade status says following"},
		"there is no way back":    {with(func(s *machine.State) { s.Step = machine.Decided }), machine.Reverse, "there is no way back", "crossfade finish ends the migration"},
	} {
		why := x.state.RefuseCutover(x.direction)
		require.NotNil(t, why, name)
		require.Equal(t, "not_ready", why.Code, name)
		require.Contains(t, why.Detail, x.detail, name)
		require.Contains(t, why.Remedy, x.remedy, name)
		require.NotContains(t, why.Remedy, "…", name)
	}
}
