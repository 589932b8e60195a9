package cutover

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
	"crossfade/cutover/machine/machinetest"
)

// coordinatorFixture is a coordinator that runs over a fake, inside of a synctest bubble: time
// passes by itself when all wait.
type coordinatorFixture struct {
	t    *testing.T
	f    *fake
	c    *Coordinator
	stop context.CancelFunc
	ran  chan error
}

// inBubble runs a test with a coordinator. Whatever the test does, both sides are never open.
func inBubble(t *testing.T, w machinetest.World, limits machine.Limits, prepare func(*fake), test func(*coordinatorFixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(w)
		if prepare != nil {
			prepare(f)
		}
		c, err := New(Config{Journal: f, Traffic: f, Forward: f.ports(), Limits: limits, Log: zerolog.Nop()})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		b := &coordinatorFixture{t: t, f: f, c: c, stop: cancel, ran: make(chan error, 1)}
		go func() { b.ran <- c.Run(ctx) }()
		defer func() {
			cancel()
			<-c.ended
			require.Empty(t, f.broken)
		}()
		test(b)
	})
}

func (b *coordinatorFixture) settled() { <-b.c.Settled() }

// eventually waits for a call to be under way.
func (b *coordinatorFixture) eventually(name string) {
	b.t.Helper()
	for range 10000 {
		synctest.Wait()
		if b.f.called(name) > 0 {
			return
		}
		timer := time.NewTimer(time.Millisecond)
		<-timer.C
	}
	b.t.Fatalf("%s was never called", name)
}

// ask requests in the background.
func (b *coordinatorFixture) ask(o Options) chan answer {
	reply := make(chan answer, 1)
	go func() {
		r, err := b.c.Cutover(context.Background(), o)
		reply <- answer{r, err}
	}()
	return reply
}

func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestCutoverSwitches(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
		f.hooks["fence"] = func(context.Context) error {
			timer := time.NewTimer(40 * time.Millisecond)
			<-timer.C
			return nil
		}
		f.census.Bypass = []Writer{{PID: 42, User: "app", Application: "cron"}}
	}, func(b *coordinatorFixture) {
		b.settled()
		require.Equal(b.t, machine.SideSource, b.c.Status().Active)
		r, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeSwitched, r.Outcome)
		require.Equal(b.t, int64(1), r.Epoch)
		require.Equal(b.t, 40.0, r.PauseMS)
		require.Equal(b.t, HeldReport{Sessions: 2, P50MS: 1, P99MS: 3, MaxMS: 4}, r.Held)
		require.Equal(b.t, 3, r.Tables)
		require.Equal(b.t, 1, r.Sequences)
		require.Contains(b.t, r.Notes, NoWayBack)
		require.Contains(b.t, r.Notes[1], "pid 42")
		steps := map[string]float64{}
		for _, m := range r.Timeline {
			steps[m.Step] = m.AtMS
		}
		for _, n := range []machine.StepName{machine.Arming, machine.Pausing, machine.Fenced, machine.Draining, machine.Deciding, machine.Decided} {
			require.Contains(b.t, steps, string(n))
		}
		require.Equal(b.t, 40.0, steps["fenced"])
		synctest.Wait()
		s := b.c.Status()
		require.Equal(b.t, "on_target", s.Phase)
		require.Equal(b.t, machine.SideTarget, s.Active)
		require.False(b.t, s.Ready)
		w := b.f.world()
		require.Equal(b.t, machine.SideTarget, w.Gate)
		require.Equal(b.t, machine.Decided, w.Step)
		for _, o := range [][2]string{{"persist pausing", "pause"}, {"pause", "fence"}, {"fence", "wait_marker"}, {"wait_marker", "restage"}, {"persist deciding", "decide"}, {"decide", "switch"}, {"switch", "complete"}, {"open", "start"}} {
			require.True(b.t, b.f.before(o[0], o[1]), "%s before %s", o[0], o[1])
		}
		_, err = b.c.Cutover(b.t.Context(), Options{})
		refused := &RefusedError{}
		require.ErrorAs(b.t, err, &refused)
	})
}

func TestEveryPortThatHangsIsLeftAtItsBound(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"claim", "census", "lag", "sequences", "fingerprint source", "fingerprint target", "prepare_fence", "rehearse", "stage", "prelock source",
		"prelock target", "persist pausing", "pause", "expel", "fence", "persist draining", "wait_marker", "restage", "open", "persist deciding", "decide",
	} {
		for _, deaf := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/deaf=%v", name, deaf), func(t *testing.T) {
				t.Parallel()
				release := make(chan struct{})
				inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
					release = make(chan struct{})
					f.hooks[name] = func(ctx context.Context) error {
						if deaf {
							<-release
							return errors.New("woken too late")
						}
						return hang(ctx)
					}
				}, func(b *coordinatorFixture) {
					b.settled()
					r, err := b.c.Cutover(b.t.Context(), Options{})
					require.NoError(b.t, err)
					require.Equal(b.t, machine.OutcomeAborted, r.Outcome)
					require.NotEmpty(b.t, r.Reason)
					require.LessOrEqual(b.t, r.PauseMS, float64((machine.DecideBound+machine.DefaultPause+4*laneGrace)/time.Millisecond))
					w := b.f.world()
					require.Equal(b.t, machine.SideSource, w.Gate)
					require.True(b.t, w.Source)
					require.True(b.t, w.Step.Resting())
					close(release)
				})
			})
		}
	}
}

func TestStopUndoesAnAttempt(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"stage", "pause", "fence", "wait_marker", "restage"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) { f.hooks[name] = hang }, func(b *coordinatorFixture) {
				b.settled()
				reply := b.ask(Options{})
				b.eventually(name)
				b.stop()
				require.NoError(b.t, <-b.ran)
				a := <-reply
				require.NoError(b.t, a.err)
				require.Equal(b.t, machine.OutcomeAborted, a.report.Outcome)
				require.Contains(b.t, a.report.Reason, "stopped")
				w := b.f.world()
				require.Equal(b.t, machine.SideSource, w.Gate)
				require.True(b.t, w.Source)
				require.Equal(b.t, machine.Idle, w.Step)
				_, err := b.c.Cutover(context.Background(), Options{})
				require.ErrorIs(b.t, err, ErrStopped)
			})
		})
	}
}

func TestASecondRequestIsRefused(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
		release = make(chan struct{})
		f.hooks["stage"] = func(context.Context) error { <-release; return nil }
	}, func(b *coordinatorFixture) {
		b.settled()
		first := b.ask(Options{})
		b.eventually("stage")
		_, err := b.c.Cutover(b.t.Context(), Options{})
		refused := &RefusedError{}
		require.ErrorAs(b.t, err, &refused)
		require.Contains(b.t, refused.Error(), "under way")
		close(release)
		a := <-first
		require.NoError(b.t, a.err)
		require.Equal(b.t, machine.OutcomeSwitched, a.report.Outcome)
	})
}

func TestADrainTimeoutIsTriedAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
		n := 0
		f.hooks["pause"] = func(context.Context) error {
			if n++; n < 3 {
				return fmt.Errorf("session 7 of app is in a transaction: %w", ErrDrainTimeout)
			}
			return nil
		}
	}, func(b *coordinatorFixture) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeSwitched, r.Outcome)
		require.Equal(b.t, 3, b.f.called("pause"))
		require.Equal(b.t, 2, b.f.called("persist arming"))
	})
	inBubble(t, machinetest.Following(), machine.Limits{DrainTimeout: time.Second, MaxPause: 2 * time.Second, Attempts: 2, MaxLagBytes: 1}, func(f *fake) {
		f.hooks["pause"] = func(context.Context) error {
			return fmt.Errorf("session 7 of app is in a transaction: %w", ErrDrainTimeout)
		}
	}, func(b *coordinatorFixture) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeAborted, r.Outcome)
		require.Contains(b.t, r.Reason, "session 7 of app")
		require.Contains(b.t, r.Reason, "tried 2 times")
	})
}
