package cutover

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"crossfade/cutover/machine"
	"crossfade/cutover/machine/machinetest"
)

// fake is every port at once, over a world. Hooks make single methods fail or hang.
type fake struct {
	mu    sync.Mutex
	w     machinetest.World
	calls []string
	// hooks run before the method does its work, without the lock. An error is returned instead of
	// doing it.
	hooks map[string]func(ctx context.Context) error
	// after run when the work is done; an error is returned although it was.
	after          map[string]func(ctx context.Context) error
	trips          chan Trip
	lost           map[machine.Side]func(string)
	prints         [2]machine.Fingerprint
	census         Census
	lag            Lag
	sessionsReport SessionsReport
	held           Waits // in a pause that failed
	broken         string

	policies  []machine.StagePolicy // of each Stage
	unmovable []string
	ended     []string // clients that were ended
}

func newFake(w machinetest.World) *fake {
	return &fake{
		w: w, hooks: map[string]func(context.Context) error{}, after: map[string]func(context.Context) error{},
		trips: make(chan Trip), lost: map[machine.Side]func(string){}, census: Census{Tables: 3},
	}
}

// do runs one method.
func (f *fake) do(ctx context.Context, name string, work func(w *machinetest.World) error) error {
	f.mu.Lock()
	f.calls = append(f.calls, name)
	hook, after := f.hooks[name], f.after[name]
	f.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return err
		}
	}
	if work != nil {
		f.mu.Lock()
		err := work(&f.w)
		if f.w.Source && f.w.Target {
			f.broken = name + " has opened both sides"
		}
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if after != nil {
		return after(ctx)
	}
	return nil
}

func (f *fake) called(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if c == name {
			n++
		}
	}
	return n
}

// before reports whether the last call of a came before the last call of b.
func (f *fake) before(a, b string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := func(name string) int {
		for i, c := range slices.Backward(f.calls) {
			if c == name {
				return i
			}
		}
		return -1
	}
	return last(a) >= 0 && last(a) < last(b)
}

func (f *fake) world() machinetest.World {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.w
}

func cas(ok bool) error {
	if !ok {
		return fmt.Errorf("compare and set: %w", ErrConflict)
	}
	return nil
}

// Journal.

func (f *fake) Take(ctx context.Context) (r machine.Record, err error) {
	err = f.do(ctx, "take", func(w *machinetest.World) error {
		r = machine.Record{Epoch: w.Epoch, Direction: w.Direction, Step: w.Step}
		return nil
	})
	return r, err
}

func (f *fake) Claim(ctx context.Context, c Claim) error {
	return f.do(ctx, "claim", func(w *machinetest.World) error { return cas(w.Claim(c.Epoch, c.Direction)) })
}

func (f *fake) Persist(ctx context.Context, c Change) error {
	return f.do(ctx, "persist "+string(c.To), func(w *machinetest.World) error { return cas(w.Epoch == c.Epoch && w.Record(c.From, c.To)) })
}

// Traffic.

func (f *fake) Stage(ctx context.Context, _ int64, policy machine.StagePolicy) (StageReport, error) {
	f.mu.Lock()
	f.policies = append(f.policies, policy)
	f.mu.Unlock()
	return StageReport{Sessions: 2, Unmovable: f.unmovable}, f.do(ctx, "stage", nil)
}

func (f *fake) Pause(ctx context.Context, _ int64, _ time.Duration) (int, error) {
	return 2, f.do(ctx, "pause", func(w *machinetest.World) error { w.Gate = ""; return nil })
}

func (f *fake) Restage(ctx context.Context, _ int64) (StageReport, error) {
	f.mu.Lock()
	closed := 0
	if n := len(f.policies); n > 0 && f.policies[n-1].Unmovable == machine.UnmovableDisconnect {
		closed = len(f.unmovable)
	}
	f.mu.Unlock()
	return StageReport{Sessions: 1, Unmovable: f.unmovable, Disconnected: closed}, f.do(ctx, "restage", nil)
}

func (f *fake) Resume(ctx context.Context, _ int64) (Waits, error) {
	return f.held, f.do(ctx, "resume", func(w *machinetest.World) error { w.Gate = w.Direction.Closing(); return nil })
}

func (f *fake) Switch(ctx context.Context, _ int64, to machine.Side) (SwitchReport, error) {
	return SwitchReport{Moved: 5, Held: Waits{Sessions: 2, P50: time.Millisecond, P99: 3 * time.Millisecond, Max: 4 * time.Millisecond}},
		f.do(ctx, "switch", func(w *machinetest.World) error { w.Gate = to; return nil })
}

func (f *fake) InspectSessions(ctx context.Context) (SessionsReport, error) {
	return f.sessionsReport, f.do(ctx, "look", nil)
}

func (f *fake) Discard(ctx context.Context) error { return f.do(ctx, "discard", nil) }

func (f *fake) Ended() (int, []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ended), f.ended
}

// The two sides share a type that knows which it is.

type fakeSide struct {
	*fake
	side machine.Side
}

func (f fakeSide) Census(ctx context.Context) (Census, error) {
	return f.census, f.do(ctx, "census", nil)
}

func (f fakeSide) PrepareFence(ctx context.Context) (int, error) {
	return 3, f.do(ctx, "prepare_fence", nil)
}

func (f fakeSide) Prelock(ctx context.Context, _ int64, lost func(string)) error {
	f.mu.Lock()
	f.lost[f.side] = lost
	f.mu.Unlock()
	return f.do(ctx, "prelock "+string(f.side), nil)
}

func (f fakeSide) ReleasePrelock(ctx context.Context) error {
	return f.do(ctx, "release "+string(f.side), nil)
}

func (f fakeSide) Expel(ctx context.Context, _ int64) (int, error) {
	return 0, f.do(ctx, "expel", nil)
}

func (f fakeSide) Fence(ctx context.Context, _ int64, _ string) (FenceReport, error) {
	return FenceReport{Tables: 3, LSN: "0/1"}, f.do(ctx, "fence", func(w *machinetest.World) error { return cas(w.Fence()) })
}

func (f fakeSide) Unfence(ctx context.Context, _ int64) error {
	return f.do(ctx, "unfence", func(w *machinetest.World) error { return cas(w.Unfence()) })
}

func (f fakeSide) Sequences(ctx context.Context) ([]Sequence, error) {
	return []Sequence{{Schema: "public", Name: "s", LastValue: 7, IsCalled: true}}, f.do(ctx, "sequences", nil)
}

func (f fakeSide) Fingerprint(ctx context.Context) (machine.Fingerprint, error) {
	i := 0
	if f.side == machine.SideTarget {
		i = 1
	}
	f.mu.Lock()
	p := f.prints[i]
	f.mu.Unlock()
	return p, f.do(ctx, "fingerprint "+string(f.side), nil)
}

func (f fakeSide) PrepareReverse(ctx context.Context) error {
	return f.do(ctx, "prepare reverse", nil)
}

func (f fakeSide) RehearseDecision(ctx context.Context, _ DecisionInput) error {
	return f.do(ctx, "rehearse", nil)
}

func (f fakeSide) Decide(ctx context.Context, in DecisionInput) error {
	return f.do(ctx, "decide", func(w *machinetest.World) error {
		if len(in.Sequences) != 1 || in.Nonce == "" {
			return fmt.Errorf("decide with %+v", in)
		}
		return cas(w.Decide())
	})
}

func (f fakeSide) Decision(ctx context.Context, epoch int64) (d Decision, err error) {
	err = f.do(ctx, "decision", func(w *machinetest.World) error {
		d = Decision{Epoch: epoch, Verdict: w.Verdict(epoch)}
		return nil
	})
	return d, err
}

func (f fakeSide) Reject(ctx context.Context, epoch int64) (d Decision, err error) {
	err = f.do(ctx, "reject", func(w *machinetest.World) error {
		w.Reject()
		d = Decision{Epoch: epoch, Verdict: w.Verdict(epoch)}
		return nil
	})
	return d, err
}

func (f fakeSide) Complete(ctx context.Context, _ int64) error { return f.do(ctx, "complete", nil) }

// Replication and Verification.

type fakeStream struct{ *fake }

func (f fakeStream) Lag(ctx context.Context) (Lag, error) { return f.lag, f.do(ctx, "lag", nil) }
func (f fakeStream) WaitMarker(ctx context.Context, _ Marker) error {
	return f.do(ctx, "wait_marker", nil)
}
func (f fakeStream) Continue(ctx context.Context, _ int64) error { return f.do(ctx, "continue", nil) }
func (f fakeStream) Tripped() <-chan Trip                        { return f.trips }

type fakeProof struct{ *fake }

func (f fakeProof) Prepare(ctx context.Context) error        { return f.do(ctx, "ready", nil) }
func (f fakeProof) Open(ctx context.Context, _ int64) error  { return f.do(ctx, "open", nil) }
func (f fakeProof) Start(ctx context.Context, _ int64) error { return f.do(ctx, "start", nil) }
func (f fakeProof) Discard(ctx context.Context) error        { return f.do(ctx, "let_go", nil) }
func (f fakeProof) Status() VerificationStatus               { return VerificationStatus{State: "none"} }

func (f *fake) ports() Ports {
	return Ports{
		Source: fakeSide{f, machine.SideSource}, Target: fakeSide{f, machine.SideTarget},
		Replication: fakeStream{f}, Verification: fakeProof{f},
	}
}
