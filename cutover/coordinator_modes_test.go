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
)

func TestARehearsalIsUndone(t *testing.T) {
	t.Parallel()
	inBubble(t, following(), DefaultLimits(), nil, func(b *bench) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{Rehearse: true})
		require.NoError(b.t, err)
		require.Equal(b.t, OutcomeRehearsed, r.Outcome)
		require.Equal(b.t, 1, b.f.called("unfence"))
		require.Zero(b.t, b.f.called("decide"))
		w := b.f.world()
		require.Equal(b.t, Idle, w.step)
		require.Equal(b.t, SideSource, w.gate)
	})
	inBubble(t, following(), DefaultLimits(), func(f *fake) { f.census.Bypass = []Writer{{PID: 1}} }, func(b *bench) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{Rehearse: true})
		require.NoError(b.t, err)
		require.Equal(b.t, OutcomeAborted, r.Outcome)
		require.Contains(b.t, r.Reason, "--allow-bypass")
		require.Zero(b.t, b.f.called("pause"))
	})
}

func TestADryRunChangesNothing(t *testing.T) {
	t.Parallel()
	inBubble(t, following(), DefaultLimits(), func(f *fake) {
		f.lag.Bytes = 1 << 30
		f.prints[0] = Fingerprint{Sum: "a", Objects: []Object{{"table public.a", "1"}, {"table public.b", "1"}}}
		f.prints[1] = Fingerprint{Sum: "b", Objects: []Object{{"table public.b", "2"}, {"table public.c", "1"}}}
		f.hooks["census"] = func(context.Context) error { return context.Canceled }
	}, func(b *bench) {
		b.settled()
		before := b.f.world()
		r, err := b.c.Plan(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, OutcomePlanned, r.Outcome)
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
	inBubble(t, following(), DefaultLimits(), func(f *fake) {
		f.after["wait_marker"] = func(context.Context) error {
			f.mu.Lock()
			f.prints[0] = Fingerprint{Sum: "b", Objects: []Object{{"table public.added", "1"}}}
			f.mu.Unlock()
			return nil
		}
	}, func(b *bench) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, OutcomeAborted, r.Outcome)
		require.Contains(b.t, r.Reason, "table public.added is only on the source")
		require.True(b.t, b.f.world().source)
	})
}

func TestTruncateGetsTheTargetLock(t *testing.T) {
	t.Parallel()
	inBubble(t, following(), DefaultLimits(), func(f *fake) {
		f.hooks["release target"] = func(context.Context) error {
			timer := time.NewTimer(10 * time.Millisecond)
			<-timer.C
			return nil
		}
	}, func(b *bench) {
		b.settled()
		require.NoError(b.t, b.c.YieldTargetLock(b.t.Context()))
		require.Zero(b.t, b.f.called("release target"), "nothing is held")
		b.f.hooks["wait_marker"] = func(ctx context.Context) error {
			return b.c.YieldTargetLock(ctx) // what an applier does that meets TRUNCATE before the marker
		}
		r, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, OutcomeSwitched, r.Outcome)
		require.Equal(b.t, 1, b.f.called("release target"))
		require.Equal(b.t, 2, b.f.called("prelock target"))
	})
}

func TestALostPrelockIsNoReasonToStop(t *testing.T) {
	t.Parallel()
	inBubble(t, following(), DefaultLimits(), func(f *fake) {
		f.hooks["pause"] = func(context.Context) error {
			f.mu.Lock()
			lost := f.lost[SideSource]
			f.mu.Unlock()
			lost("someone waited 200ms on it")
			return nil
		}
	}, func(b *bench) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, OutcomeSwitched, r.Outcome)
		var told bool
		for _, m := range r.Timeline {
			told = told || m.Step == "prelock_source" && m.Detail == "let go: someone waited 200ms on it"
		}
		require.True(b.t, told)
	})
}

func TestStepsOutsideOfAnAttemptAreRecorded(t *testing.T) {
	t.Parallel()
	w := following()
	w.step = Copying
	inBubble(t, w, DefaultLimits(), nil, func(b *bench) {
		b.settled()
		_, err := b.c.Cutover(b.t.Context(), Options{})
		refused := &RefusedError{}
		require.ErrorAs(b.t, err, &refused)
		require.Contains(b.t, refused.Error(), "copying")
		require.NoError(b.t, b.c.Advance(b.t.Context(), Following))
		require.NoError(b.t, b.c.Advance(b.t.Context(), Following))
		require.ErrorAs(b.t, b.c.Advance(b.t.Context(), Finished), &refused)
		require.Equal(b.t, Following, b.f.world().step)
		_, err = b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		synctest.Wait()
		require.NoError(b.t, b.c.Advance(b.t.Context(), Finished))
		require.Equal(b.t, "finished", b.c.Status().Phase)
	})
}

func TestBlockedFromOutside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(following())
		c, err := New(Config{
			Journal: f, Traffic: f, Forward: f.ports(), Limits: DefaultLimits(), Log: zerolog.Nop(),
			Blocked: func(Direction) []Obstacle {
				return []Obstacle{{Code: "no_replica_identity", Detail: "table public.x has no replica identity", Remedy: "give it one"}}
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
	f := newFake(following())
	good := Config{Journal: f, Traffic: f, Forward: f.ports(), Limits: DefaultLimits()}
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
		inBubble(t, following(), DefaultLimits(), func(f *fake) {
			if away {
				f.hooks["lag"] = func(context.Context) error { return context.Canceled }
			}
		}, func(b *bench) {
			b.settled()
			r, err := b.c.Plan(b.t.Context(), Options{})
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
	inBubble(t, following(), DefaultLimits(), nil, func(b *bench) {
		b.settled()
		r, err := b.c.Cutover(b.t.Context(), Options{})
		require.NoError(b.t, err)
		require.Equal(b.t, OutcomeSwitched, r.Outcome)
		require.True(b.t, slices.ContainsFunc(r.Timeline, func(m Moment) bool {
			return m.Step == "switch" && strings.Contains(m.Detail, "5 sessions moved")
		}), "of which 2 had a client that waited: %v", r.Timeline)
	})
}
