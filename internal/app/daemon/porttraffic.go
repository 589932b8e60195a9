package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/proxy"
	"crossfade/proxy/state"
)

// trafficPort is cutover.Traffic over the proxy.
type trafficPort struct {
	proxy *proxy.Proxy
	pin   func(ctx context.Context) error // reads the source's settings of every role again
	// closing is called when the gate is about to be closed.
	closing func()
	// open is called before applications reach the target.
	open  func(ctx context.Context, epoch int64)
	known func(ctx context.Context) error // returns when what logins to the target go by is known
}

// Stage implements cutover.Traffic.
func (t *trafficPort) Stage(ctx context.Context, epoch int64, policy machine.StagePolicy) (cutover.StageReport, error) {
	if err := t.pin(ctx); err != nil {
		return cutover.StageReport{}, err
	}
	if err := t.proxy.Attempt(ctx, epoch, proxy.Unmovable(policy.Unmovable), policy.Wait); err != nil {
		return cutover.StageReport{}, err
	}
	r, err := t.proxy.Stage(ctx, epoch)
	return stageReport(r), held(err)
}

func stageReport(r proxy.StageReport) cutover.StageReport {
	out := cutover.StageReport{Sessions: r.Sessions, Disconnected: r.Disconnected}
	for _, n := range r.Unmovable {
		out.Unmovable = append(out.Unmovable, n.String())
	}
	return out
}

// held marks the error that may pass.
func held(err error) error {
	var yet *proxy.HeldError
	if errors.As(err, &yet) {
		return heldError{err}
	}
	return err
}

// heldError is a cutover.ErrHeld in the words of what it holds.
type heldError struct{ err error }

func (e heldError) Error() string   { return e.err.Error() }
func (e heldError) Unwrap() []error { return []error{cutover.ErrHeld, e.err} }

// Pause implements cutover.Traffic.
func (t *trafficPort) Pause(ctx context.Context, epoch int64, drain time.Duration) (cutover.PauseReport, error) {
	t.closing()
	r, err := t.proxy.Pause(ctx, epoch, drain)
	var late *proxy.DrainTimeoutError
	if errors.As(err, &late) {
		err = fmt.Errorf("%w: %w", cutover.ErrDrainTimeout, err)
	}
	return cutover.PauseReport{Sessions: r.Sessions}, held(err)
}

// Restage implements cutover.Traffic.
func (t *trafficPort) Restage(ctx context.Context, epoch int64) (cutover.StageReport, error) {
	r, err := t.proxy.Restage(ctx, epoch)
	return stageReport(r), err
}

// Resume implements cutover.Traffic.
func (t *trafficPort) Resume(ctx context.Context, epoch int64) (cutover.ResumeReport, error) {
	if err := t.proxy.Resume(ctx, epoch); err != nil {
		return cutover.ResumeReport{}, err
	}
	return cutover.ResumeReport{Held: waits(t.proxy.TakeHeld(ctx))}, nil
}

// waits puts what the proxy measured into the cutover's terms.
func waits(h proxy.Held) cutover.Waits {
	ms := func(x float64) time.Duration { return time.Duration(x * float64(time.Millisecond)) }
	return cutover.Waits{Sessions: h.Sessions, P50: ms(h.P50), P99: ms(h.P99), Max: ms(h.Max)}
}

// Switch implements cutover.Traffic.
func (t *trafficPort) Switch(ctx context.Context, epoch int64, to machine.Side) (cutover.SwitchReport, error) {
	if to == machine.SideTarget {
		if err := t.known(ctx); err != nil {
			return cutover.SwitchReport{}, err
		}
		t.open(ctx, epoch)
	}
	r, err := t.proxy.Switch(ctx, epoch, string(to))
	return cutover.SwitchReport{Moved: r.Moved, ClientErrors: r.ClientErrors, Held: waits(r.Held)}, err
}

// Look implements cutover.Traffic.
func (t *trafficPort) Look(ctx context.Context) (cutover.SessionsReport, error) {
	var r cutover.SessionsReport
	for _, s := range t.proxy.Sessions(ctx, true) {
		r.Sessions++
		switch s.Verdict {
		case state.Red.String():
			r.Red = append(r.Red, s.String())
		case state.Hold.String():
			r.Holding = append(r.Holding, s.String())
		}
	}
	return r, nil
}

// Discard implements cutover.Traffic.
func (t *trafficPort) Discard(ctx context.Context) error {
	t.proxy.Discard(ctx)
	return nil
}

// Ended implements cutover.Traffic.
func (t *trafficPort) Ended() (total int, latest []string) {
	total, notes := t.proxy.Ended()
	for _, n := range notes {
		latest = append(latest, n.String())
	}
	return total, latest
}
