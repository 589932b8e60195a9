package cutover

import (
	"context"
	"fmt"
	"time"

	"crossfade/cutover/machine"
	"crossfade/internal/base/failpoint"
)

// Failpoints. Each step's own is "cutover." and its name, passed right after its record: cutover.arming, cutover.pausing,
// cutover.fenced, cutover.draining, cutover.deciding, cutover.decided, cutover.idle.
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

func (c *Coordinator) ports(d machine.Direction) Ports {
	if d == machine.Reverse && c.cfg.Reverse != nil {
		return *c.cfg.Reverse
	}
	return c.cfg.Forward
}

func (c *Coordinator) recordCall(e machine.PersistStep) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		err := c.cfg.Journal.Persist(ctx, Change{Epoch: e.Epoch, Direction: e.Direction, From: e.From, To: e.To})
		if err == nil {
			failpoint.Here("cutover." + string(e.To))
		}
		return plain(ctx, machine.OpRecord, e.Gen, "", err)
	}
}

// plain is the outcome of a call that gives nothing but success.
func plain(ctx context.Context, op machine.Op, gen uint64, detail string, err error) outcome {
	if err != nil {
		return outcome{event: machine.Failed{Op: op, Gen: gen, Class: classify(ctx, err), Reason: err.Error()}}
	}
	return outcome{event: machine.Done{Op: op, Gen: gen, Detail: detail}}
}

// portCall prepares a call. What it needs of the account is read here, on Run's goroutine.
func (c *Coordinator) portCall(e machine.Call) func(context.Context) outcome {
	p := c.ports(e.Direction)
	switch e.Op {
	case machine.OpTake, machine.OpClaim:
		return c.journalCall(e)
	case machine.OpStage, machine.OpPause, machine.OpRestage, machine.OpResume, machine.OpSwitch, machine.OpDiscardStaged, machine.OpLook:
		return c.trafficCall(e)
	case machine.OpCensus, machine.OpSequences, machine.OpPrepareFence, machine.OpPrelockSource, machine.OpReleaseSource, machine.OpExpel, machine.OpFence, machine.OpUnfence, machine.OpFingerprintSource:
		return c.sourceCall(e, p.Source)
	case machine.OpPrelockTarget, machine.OpReleaseTarget, machine.OpYieldTarget, machine.OpRehearseDecision, machine.OpDecide, machine.OpDecision, machine.OpReject, machine.OpComplete, machine.OpFingerprintTarget:
		return c.targetCall(e, p.Target)
	default:
		return c.streamCall(e, p)
	}
}

func (c *Coordinator) journalCall(e machine.Call) func(context.Context) outcome {
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

func (c *Coordinator) trafficCall(e machine.Call) func(context.Context) outcome {
	t := c.cfg.Traffic
	return func(ctx context.Context) outcome {
		switch e.Op {
		case machine.OpStage, machine.OpRestage:
			return staged(ctx, e, t)
		case machine.OpPause:
			r, err := t.Pause(ctx, e.Epoch, e.Drain)
			return plain(ctx, e.Op, e.Gen, fmt.Sprintf("%d sessions parked", r.Sessions), err)
		case machine.OpLook:
			r, err := t.Look(ctx)
			out := plain(ctx, e.Op, e.Gen, fmt.Sprintf("%d sessions", r.Sessions), err)
			out.keep = func(a *account) { a.look = r }
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
				out.keep = func(a *account) { a.switched, a.now().held = r, r.Held }
			}
			return out
		default:
			return plain(ctx, e.Op, e.Gen, "", t.Discard(ctx))
		}
	}
}
