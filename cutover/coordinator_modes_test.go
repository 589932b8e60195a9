package cutover

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
	"crossfade/cutover/machine/machinetest"
)

func TestARehearsalIsUndone(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), nil, func(b *coordinatorFixture) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{Rehearse: true})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeRehearsed, r.Outcome)
		require.Equal(b.t, 1, b.f.called("unfence"))
		require.Zero(b.t, b.f.called("decide"))
		w := b.f.world()
		require.Equal(b.t, machine.Idle, w.Step)
		require.Equal(b.t, machine.SideSource, w.Gate)
	})
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) { f.census.Bypass = []Writer{{PID: 1}} }, func(b *coordinatorFixture) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{Rehearse: true})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeAborted, r.Outcome)
		require.Contains(b.t, r.Reason, "--allow-bypass")
		require.Zero(b.t, b.f.called("pause"))
	})
}

func TestADryRunChangesNothing(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
		f.lag.Bytes = 1 << 30
		f.prints[0] = machine.Fingerprint{Sum: "a", Objects: []machine.Object{{Name: "table public.a", Sum: "1"}, {Name: "table public.b", Sum: "1"}}}
		f.prints[1] = machine.Fingerprint{Sum: "b", Objects: []machine.Object{{Name: "table public.b", Sum: "2"}, {Name: "table public.c", Sum: "1"}}}
		f.hooks["census"] = func(context.Context) error { return context.Canceled }
	}, func(b *coordinatorFixture) {
		b.settled()
		before := b.f.world()
		r, err := b.c.Cutover(b.t.Context(), Options{DryRun: true})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomePlanned, r.Outcome)
		require.Contains(b.t, r.Reason, "census: context canceled")
		require.Contains(b.t, r.Reason, "table public.a is only on the source; table public.b differs; table public.c is only on the target")
		require.Contains(b.t, r.Reason, "the stream is 1073741824 bytes behind")
		require.Equal(b.t, "claim", r.Timeline[0].Step)
		require.Equal(b.t, before, b.f.world())
		for _, name := range []string{"claim", "stage", "prepare_fence", "rehearse", "prelock source"} {
			require.Zero(b.t, b.f.called(name), name)
		}
	})
}

func TestAFingerprintThatDiffersNamesTheObject(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
		f.after["wait_marker"] = func(context.Context) error {
			f.mu.Lock()
			f.prints[0] = machine.Fingerprint{Sum: "b", Objects: []machine.Object{{Name: "table public.added", Sum: "1"}}}
			f.mu.Unlock()
			return nil
		}
	}, func(b *coordinatorFixture) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeAborted, r.Outcome)
		require.Contains(b.t, r.Reason, "table public.added is only on the source")
		require.True(b.t, b.f.world().Source)
	})
}

func TestTruncateGetsTheTargetLock(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
		f.hooks["release target"] = func(context.Context) error {
			timer := time.NewTimer(10 * time.Millisecond)
			<-timer.C
			return nil
		}
	}, func(b *coordinatorFixture) {
		b.settled()
		require.NoError(b.t, b.c.YieldTargetLock(b.t.Context()))
		require.Zero(b.t, b.f.called("release target"), "nothing is held")
		b.f.hooks["wait_marker"] = func(ctx context.Context) error {
			return b.c.YieldTargetLock(ctx) // what an applier does that meets TRUNCATE before the marker
		}
		r, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeSwitched, r.Outcome)
		require.Equal(b.t, 1, b.f.called("release target"))
		require.Equal(b.t, 2, b.f.called("prelock target"))
	})
}

func TestALostPrelockIsNoReasonToStop(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
		f.hooks["pause"] = func(context.Context) error {
			f.mu.Lock()
			lost := f.lost[machine.SideSource]
			f.mu.Unlock()
			lost("someone waited 200ms on it")
			return nil
		}
	}, func(b *coordinatorFixture) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeSwitched, r.Outcome)
		var told bool
		for _, m := range r.Timeline {
			told = told || m.Step == "prelock_source" && m.Detail == "let go: someone waited 200ms on it"
		}
		require.True(b.t, told)
	})
}

func TestStepsOutsideOfAnAttemptAreRecorded(t *testing.T) {
	t.Parallel()
	w := machinetest.Following()
	w.Step = machine.Copying
	inBubble(t, w, machine.DefaultLimits(), nil, func(b *coordinatorFixture) {
		b.settled()
		_, err := b.c.Cutover(b.t.Context(), Options{})
		refused := &RefusedError{}
		require.ErrorAs(b.t, err, &refused)
		require.Contains(b.t, refused.Error(), "copying")
		require.NoError(b.t, b.c.Advance(b.t.Context(), machine.Following))
		require.NoError(b.t, b.c.Advance(b.t.Context(), machine.Following))
		require.ErrorAs(b.t, b.c.Advance(b.t.Context(), machine.Finished), &refused)
		require.Equal(b.t, machine.Following, b.f.world().Step)
		_, err = b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		synctest.Wait()
		require.NoError(b.t, b.c.Advance(b.t.Context(), machine.Finished))
		require.Equal(b.t, "finished", b.c.Status().Phase)
	})
}

func TestBlockedFromOutside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(machinetest.Following())
		c, err := New(Config{
			Journal: f, Traffic: f, Forward: f.ports(), Limits: machine.DefaultLimits(), Log: zerolog.Nop(),
			Blocked: func(machine.Direction) []machine.Obstacle {
				return []machine.Obstacle{{Code: "no_replica_identity", Detail: "table public.x has no replica identity", Remedy: "give it one"}}
			},
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- c.Run(ctx) }()
		<-c.Settled()
		_, err = c.Cutover(ctx, Options{})
		require.ErrorContains(t, err, "replica identity")
		synctest.Wait()
		require.False(t, c.Status().Ready)
		cancel()
		require.NoError(t, <-ran)
		require.Error(t, c.Run(context.Background()))
	})
}

func TestConfigValidates(t *testing.T) {
	t.Parallel()
	f := newFake(machinetest.Following())
	good := Config{Journal: f, Traffic: f, Forward: f.ports(), Limits: machine.DefaultLimits()}
	require.NoError(t, good.Validate())
	for name, spoil := range map[string]func(*Config){
		"journal":  func(c *Config) { c.Journal = nil },
		"port":     func(c *Config) { c.Forward.Target = nil },
		"reverse":  func(c *Config) { c.Reverse = &Ports{} },
		"pause":    func(c *Config) { c.Limits.MaxPause = c.Limits.DrainTimeout },
		"drain":    func(c *Config) { c.Limits.DrainTimeout = 0 },
		"attempts": func(c *Config) { c.Limits.Attempts = 0 },
		"lag":      func(c *Config) { c.Limits.MaxLagBytes = 0 },
	} {
		bad := good
		spoil(&bad)
		require.Error(t, bad.Validate(), name)
	}
}

func TestAPlanSaysWhatEachStepIsForAndNothingThatWasNotMeasured(t *testing.T) {
	t.Parallel()
	for _, away := range []bool{false, true} {
		inBubble(t, machinetest.Following(), machine.DefaultLimits(), func(f *fake) {
			if away {
				f.hooks["lag"] = func(context.Context) error { return context.Canceled }
			}
		}, func(b *coordinatorFixture) {
			b.settled()
			r, err := b.c.Cutover(b.t.Context(), Options{DryRun: true})
			require.NoError(b.t, err)
			for _, m := range r.Timeline {
				require.NotRegexp(b.t, `^;|[a-z]_[a-z]`, m.Detail, m.Step)
			}
			notes := strings.Join(r.Notes, "\n")
			require.Equal(b.t, away, !strings.Contains(notes, "bytes behind"), notes)
		})
	}
}

func TestASwitchSaysHowManySessionsMoved(t *testing.T) {
	t.Parallel()
	inBubble(t, machinetest.Following(), machine.DefaultLimits(), nil, func(b *coordinatorFixture) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, machine.OutcomeSwitched, r.Outcome)
		require.True(b.t, slices.ContainsFunc(r.Timeline, func(m Moment) bool {
			return m.Step == "switch" && strings.Contains(m.Detail, "5 sessions moved")
		}), "of which 2 had a client that waited: %v", r.Timeline)
	})
}
