package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/lists"
)

// Cutover implements control.Daemon.
func (d *answers) Cutover(ctx context.Context, opt control.CutoverOptions, show func(control.Event)) (control.CutoverReport, error) {
	if opt.RequireVerified {
		if b := d.core.comparison.NotVerified(d.core.cfg.Change.VerifyMaxAge); b != nil {
			return control.CutoverReport{}, refusedFor("the cutover", []control.Blocker{*b})
		}
	}
	r, err := d.core.coordinator.Cutover(ctx, cutover.Options{Direction: direction(opt.Back), Show: show, DryRun: opt.DryRun, Rehearse: opt.Rehearse, AllowBypass: opt.AllowBypass, Unmovable: machine.Unmovable(opt.Unmovable),
		Limits: machine.Limits{DrainTimeout: opt.DrainTimeout(), Attempts: opt.Attempts, MaxPause: opt.MaxPause()}})
	var no *cutover.RefusedError
	switch {
	case errors.As(err, &no):
		return control.CutoverReport{}, refusedFor(map[bool]string{false: "the cutover", true: "the fallback"}[opt.Back], no.Obstacles)
	case errors.Is(err, cutover.ErrUndecided):
		return control.CutoverReport{}, &control.Error{Code: control.CodeIncomplete, Message: err.Error()}
	case err != nil:
		return control.CutoverReport{}, control.Refused(err.Error(), "look at crossfade status and the daemon's log")
	}
	return r, nil
}

// direction is that of a request.
func direction(back bool) machine.Direction {
	if back {
		return machine.Reverse
	}
	return machine.Forward
}

// refusedFor tells why something was not begun, each reason with its remedy.
func refusedFor(what string, all []control.Blocker) error {
	e := &control.Error{Code: control.CodeRefused, Blockers: all}
	details := lists.Map(all, func(b control.Blocker) string { return b.Detail })
	if more := len(details) - watch.MostReasons; more > 0 {
		details = append(details[:watch.MostReasons], fmt.Sprintf("and %d more", more))
	}
	e.Message, e.Remedy = what+" is refused: "+strings.Join(details, "; "), "each has a remedy of its own, which crossfade status tells too"
	if len(all) == 1 {
		e.Remedy = all[0].Remedy
	}
	return e
}

// Limits implements control.Daemon.
func (d *answers) Limits(_ context.Context, c control.LimitsChange) (control.Limits, error) {
	return d.watches.guard.Change(c), nil
}

// Sessions implements control.Daemon.
func (d *answers) Sessions(ctx context.Context) ([]control.Session, error) {
	var out []control.Session
	for _, s := range d.core.proxy.Sessions(ctx, true) {
		c := control.Session{ID: s.Session, Client: s.Client, User: s.User, Database: s.Database, ApplicationName: s.ApplicationName,
			Started: s.Began, State: s.State, Since: s.Since, Side: s.Side, ServerPID: s.ServerPID, Verdict: s.Verdict, Stale: s.Stale}
		for _, why := range s.Reasons {
			c.Reasons = append(c.Reasons, control.SessionReason{Verdict: why.Verdict.String(), Code: why.Code, Detail: why.Detail})
		}
		if !s.Checked.IsZero() {
			c.Checked = &s.Checked
		}
		out = append(out, c)
	}
	return out, nil
}

// quiet holds the sessions of the proxy, once there is one.
func (d *core) quiet() ports.Quiet {
	if d.proxy == nil {
		return nil
	}
	return d.proxy.Quiet
}
