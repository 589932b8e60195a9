package cutover

import (
	"context"
	"fmt"
	"time"

	"crossfade/cutover/machine"
	"crossfade/internal/base/failpoint"
)

// Failpoints. Each step's own is "cutover." and its name, passed right after its record:
// cutover.arming, cutover.pausing, cutover.fenced, cutover.draining, cutover.deciding,
// cutover.decided, cutover.idle.
const (
	PointBeforeFence          = "cutover.before_fence"           // with the gate closed and sessions drained
	PointBeforeFenceCommit    = "cutover.before_fence_commit"    // passed by the port, inside of its transaction
	PointBeforeDecision       = "cutover.before_decision"        // with "deciding" recorded
	PointBeforeDecisionCommit = "cutover.before_decision_commit" // passed by the port, inside of its transaction
	PointAfterDecision        = "cutover.after_decision"         // committed, not yet recorded on the source
	PointMarkerApplied        = "cutover.marker_applied"
	PointSwitched             = "cutover.switched"
	PointUnfenced             = "cutover.unfenced"
)

// calls prepares the calls of ports that the machine asks for: each returns an outcome: an event
// and what has to be kept in the account. What a call needs from the account is read when it is
// prepared, on Run's goroutine.
type calls struct {
	cfg   *Config
	inbox *inbox // for what a port reports by itself
}

// record is the call that writes a step.
func (c calls) record(e machine.PersistStep) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		err := c.cfg.Journal.Persist(ctx, Change{Epoch: e.Epoch, Direction: e.Direction, From: e.From, To: e.To})
		if err == nil {
			failpoint.Here("cutover." + string(e.To))
		}
		return plain(ctx, machine.OpRecord, e.Gen, "", err)
	}
}

// plain is the outcome of a call that reports nothing but success.
func plain(ctx context.Context, op machine.Op, gen uint64, detail string, err error) outcome {
	if err != nil {
		return outcome{event: machine.Failed{Op: op, Gen: gen, Class: classify(ctx, err), Reason: err.Error()}}
	}
	return outcome{event: machine.Done{Op: op, Gen: gen, Detail: detail}}
}

// port is the call of the port that an effect names.
func (c calls) port(e machine.Call, a *account) func(context.Context) outcome {
	p := c.cfg.ports(e.Direction)
	switch e.Op {
	case machine.OpTake, machine.OpClaim:
		return c.journal(e)
	case machine.OpStage, machine.OpPause, machine.OpRestage, machine.OpResume, machine.OpSwitch, machine.OpDiscardStaged, machine.OpInspectSessions:
		return c.traffic(e)
	case machine.OpCensus, machine.OpSequences, machine.OpPrepareFence, machine.OpPrelockSource, machine.OpReleaseSource, machine.OpExpel, machine.OpFence, machine.OpUnfence, machine.OpFingerprintSource:
		return c.source(e, p.Source, a)
	case machine.OpPrelockTarget, machine.OpReleaseTarget, machine.OpYieldTarget, machine.OpRehearseDecision, machine.OpDecide, machine.OpDecision, machine.OpReject, machine.OpComplete, machine.OpFingerprintTarget:
		return c.target(e, p.Target, a)
	default:
		return stream(e, p, a.marker)
	}
}

func (c calls) journal(e machine.Call) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		if e.Op == machine.OpClaim {
			err := c.cfg.Journal.Claim(ctx, Claim{Epoch: e.Epoch, Direction: e.Direction})
			if err == nil {
				failpoint.Here("cutover." + string(machine.Arming))
			}
			return plain(ctx, e.Op, e.Gen, fmt.Sprintf("epoch %d claimed", e.Epoch), err)
		}
		r, err := c.cfg.Journal.Take(ctx)
		if err != nil {
			return plain(ctx, e.Op, e.Gen, "", err)
		}
		return outcome{event: machine.Loaded{Gen: e.Gen, Record: r}}
	}
}

// heldDetail adds to a detail how long clients waited, where any did.
func heldDetail(what string, w Waits) string {
	if w.Sessions == 0 {
		return what
	}
	return fmt.Sprintf("%s, %d clients waited, at most %v", what, w.Sessions, w.Max.Round(time.Millisecond))
}

// staged stages, before or in the pause.
func staged(ctx context.Context, e machine.Call, t Traffic) outcome {
	var r StageReport
	var err error
	if e.Op == machine.OpStage {
		r, err = t.Stage(ctx, e.Epoch, machine.StagePolicy{Unmovable: e.Unmovable, Wait: e.Drain})
	} else {
		r, err = t.Restage(ctx, e.Epoch)
	}
	detail := fmt.Sprintf("%d sessions", r.Sessions)
	if n := len(r.Unmovable); n > 0 {
		detail += fmt.Sprintf(", %d cannot be moved: %s", n, joined(r.Unmovable[:min(n, mostNamed)]))
	}
	if r.Disconnected > 0 {
		detail += fmt.Sprintf("; %d disconnected", r.Disconnected)
	}
	out := plain(ctx, e.Op, e.Gen, detail, err)
	out.keep = func(a *account) {
		if a.unmovable = r.Unmovable; r.Disconnected > 0 {
			a.disconnected += r.Disconnected
			a.expelled = append(a.expelled, r.Unmovable...)
		}
	}
	return out
}

func (c calls) traffic(e machine.Call) func(context.Context) outcome {
	t := c.cfg.Traffic
	return func(ctx context.Context) outcome {
		switch e.Op {
		case machine.OpStage, machine.OpRestage:
			return staged(ctx, e, t)
		case machine.OpPause:
			r, err := t.Pause(ctx, e.Epoch, e.Drain)
			return plain(ctx, e.Op, e.Gen, fmt.Sprintf("%d sessions parked", r.Sessions), err)
		case machine.OpInspectSessions:
			r, err := t.InspectSessions(ctx)
			out := plain(ctx, e.Op, e.Gen, fmt.Sprintf("%d sessions", r.Sessions), err)
			out.keep = func(a *account) { a.sessions = r }
			return out
		case machine.OpResume:
			r, err := t.Resume(ctx, e.Epoch)
			out := plain(ctx, e.Op, e.Gen, heldDetail("gate open", r.Held), err)
			if err == nil {
				out.keep = func(a *account) { a.now().held = r.Held }
			}
			return out
		case machine.OpSwitch:
			r, err := t.Switch(ctx, e.Epoch, e.To)
			out := plain(ctx, e.Op, e.Gen, fmt.Sprintf("gate open to the %s, %d sessions moved", e.To, r.Moved), err)
			if err == nil {
				failpoint.Here(PointSwitched)
				out.keep = func(a *account) { a.now().held = r.Held }
			}
			return out
		default:
			return plain(ctx, e.Op, e.Gen, "", t.Discard(ctx))
		}
	}
}
