package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"crossfade/cutover"
	"crossfade/proxy"
)

// trafficPort is cutover.Traffic over the proxy.
type trafficPort struct {
	proxy *proxy.Proxy
	pin   func(ctx context.Context) error // reads the source's settings of every role again
}

// Stage implements cutover.Traffic.
func (t *trafficPort) Stage(ctx context.Context, epoch int64, policy cutover.StagePolicy) (cutover.StageReport, error) {
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
		return fmt.Errorf("%w: %w", cutover.ErrHeld, err)
	}
	return err
}

// Pause implements cutover.Traffic.
func (t *trafficPort) Pause(ctx context.Context, epoch int64, drain time.Duration) (cutover.PauseReport, error) {
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
func (t *trafficPort) Resume(ctx context.Context, epoch int64) error {
	return t.proxy.Resume(ctx, epoch)
}

// Switch implements cutover.Traffic.
func (t *trafficPort) Switch(ctx context.Context, epoch int64, to cutover.Side) (cutover.SwitchReport, error) {
	r, err := t.proxy.Switch(ctx, epoch, string(to))
	ms := func(x float64) time.Duration { return time.Duration(x * float64(time.Millisecond)) }
	return cutover.SwitchReport{ClientErrors: r.ClientErrors,
		Held: cutover.Waits{Sessions: r.Held.Sessions, P50: ms(r.Held.P50), P99: ms(r.Held.P99), Max: ms(r.Held.Max)}}, err
}

// Discard implements cutover.Traffic.
func (t *trafficPort) Discard(ctx context.Context) error {
	t.proxy.Discard(ctx)
	return nil
}
