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
	case machine.OpPrelockTarget, machine.OpReleaseTarget, machine.OpYieldTarget, machine.OpPrepareReverse, machine.OpRehearseDecision, machine.OpDecide, machine.OpDecision, machine.OpReject, machine.OpComplete, machine.OpFingerprintTarget:
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
			n, err := t.Pause(ctx, e.Epoch, e.Drain)
			return plain(ctx, e.Op, e.Gen, fmt.Sprintf("%d sessions parked", n), err)
		case machine.OpInspectSessions:
			r, err := t.InspectSessions(ctx)
			out := plain(ctx, e.Op, e.Gen, fmt.Sprintf("%d sessions", r.Sessions), err)
			out.keep = func(a *account) { a.sessions = r }
			return out
		case machine.OpResume:
			held, err := t.Resume(ctx, e.Epoch)
			out := plain(ctx, e.Op, e.Gen, heldDetail("gate open", held), err)
			if err == nil {
				out.keep = func(a *account) { a.now().held = held }
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

// source calls the side that closes.
func (c calls) source(e machine.Call, s Source, a *account) func(context.Context) outcome {
	nonce := ""
	if e.Op == machine.OpFence {
		nonce = c.cfg.Nonce()
		a.marker = Marker{Epoch: e.Epoch, Nonce: nonce}
	}
	return func(ctx context.Context) outcome {
		switch e.Op {
		case machine.OpCensus:
			r, err := s.Census(ctx)
			out := outcome{
				event: machine.CensusTaken{Gen: e.Gen, Bypass: len(r.Bypass), Detail: fmt.Sprintf("%d tables, %d sessions bypass the proxy", r.Tables, len(r.Bypass))},
			}
			if err != nil {
				out = plain(ctx, e.Op, e.Gen, "", err)
			}
			out.keep = func(a *account) { a.census, a.tables = r, r.Tables }
			return out
		case machine.OpSequences:
			r, err := s.Sequences(ctx)
			out := plain(ctx, e.Op, e.Gen, fmt.Sprintf("%d read", len(r)), err)
			out.keep = func(a *account) { a.sequences = r }
			return out
		case machine.OpFingerprintSource:
			return fingerprintOf(ctx, e, machine.SideSource, s.Fingerprint)
		case machine.OpPrepareFence:
			n, err := s.PrepareFence(ctx)
			return plain(ctx, e.Op, e.Gen, fmt.Sprintf("%d tables", n), err)
		case machine.OpPrelockSource:
			return plain(ctx, e.Op, e.Gen, "", s.Prelock(ctx, e.Epoch, c.lockLost(machine.SideSource, e.Gen)))
		case machine.OpReleaseSource:
			return plain(ctx, e.Op, e.Gen, "", s.ReleasePrelock(ctx))
		case machine.OpExpel:
			n, err := s.Expel(ctx, e.Epoch)
			return plain(ctx, e.Op, e.Gen, fmt.Sprintf("%d other incarnations", n), err)
		case machine.OpFence:
			failpoint.Here(PointBeforeFence)
			r, err := s.Fence(ctx, e.Epoch, nonce)
			if err != nil {
				return plain(ctx, e.Op, e.Gen, "", err)
			}
			failpoint.Here("cutover." + string(machine.Fenced))
			out := plain(ctx, e.Op, e.Gen, fmt.Sprintf("%d tables, marker at %s", r.Tables, r.LSN), nil)
			out.keep = func(a *account) { a.tables, a.marker.LSN = r.Tables, r.LSN }
			return out
		default:
			err := s.Unfence(ctx, e.Epoch)
			if err == nil {
				failpoint.Here(PointUnfenced)
			}
			return plain(ctx, e.Op, e.Gen, "fence removed", err)
		}
	}
}

// target calls the side that opens.
func (c calls) target(e machine.Call, t Target, a *account) func(context.Context) outcome {
	in := DecisionInput{Epoch: e.Epoch, Direction: e.Direction, Sequences: a.sequences}
	if e.Op == machine.OpDecide {
		in.Nonce = a.marker.Nonce
	}
	return func(ctx context.Context) outcome {
		switch e.Op {
		case machine.OpPrelockTarget:
			return plain(ctx, e.Op, e.Gen, "", t.Prelock(ctx, e.Epoch, c.lockLost(machine.SideTarget, e.Gen)))
		case machine.OpReleaseTarget, machine.OpYieldTarget:
			return plain(ctx, e.Op, e.Gen, "", t.ReleasePrelock(ctx))
		case machine.OpPrepareReverse:
			return plain(ctx, e.Op, e.Gen, "the way back can be followed", t.PrepareReverse(ctx))
		case machine.OpRehearseDecision:
			return plain(ctx, e.Op, e.Gen, "tried and rolled back", t.RehearseDecision(ctx, in))
		case machine.OpDecide:
			failpoint.Here(PointBeforeDecision)
			err := t.Decide(ctx, in)
			if err == nil {
				failpoint.Here(PointAfterDecision)
			}
			return plain(ctx, e.Op, e.Gen, "committed", err)
		case machine.OpDecision, machine.OpReject:
			ask := t.Decision
			if e.Op == machine.OpReject {
				ask = t.Reject
			}
			d, err := ask(ctx, e.Epoch)
			if err == nil && d.Verdict == machine.VerdictUnknown {
				err = fmt.Errorf("the register of epoch %d gave no verdict", e.Epoch)
			}
			if err != nil {
				return plain(ctx, e.Op, e.Gen, "", err)
			}
			return outcome{event: machine.RegisterRead{Op: e.Op, Gen: e.Gen, Epoch: d.Epoch, Verdict: d.Verdict}}
		case machine.OpFingerprintTarget:
			return fingerprintOf(ctx, e, machine.SideTarget, t.Fingerprint)
		default:
			return plain(ctx, e.Op, e.Gen, "", t.Complete(ctx, e.Epoch))
		}
	}
}

// stream calls replication and verification.
func stream(e machine.Call, p Ports, marker Marker) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		switch e.Op {
		case machine.OpLag:
			r, err := p.Replication.Lag(ctx)
			if err != nil {
				return plain(ctx, e.Op, e.Gen, "", err)
			}
			return outcome{
				event: machine.LagRead{Gen: e.Gen, Bytes: r.Bytes, Delay: r.Delay, Detail: fmt.Sprintf("%d bytes, %v behind", r.Bytes, r.Delay)},
				keep:  func(a *account) { a.lag = &r },
			}
		case machine.OpWaitMarker:
			err := p.Replication.WaitMarker(ctx, marker)
			if err == nil {
				failpoint.Here(PointMarkerApplied)
			}
			return plain(ctx, e.Op, e.Gen, "applied", err)
		case machine.OpContinue:
			return plain(ctx, e.Op, e.Gen, "", p.Replication.Continue(ctx, e.Epoch))
		case machine.OpPrepareSnapshots:
			return plain(ctx, e.Op, e.Gen, "", p.Verification.Prepare(ctx))
		case machine.OpOpenSnapshots:
			return plain(ctx, e.Op, e.Gen, "", p.Verification.Open(ctx, e.Epoch))
		case machine.OpStartVerification:
			return plain(ctx, e.Op, e.Gen, "", p.Verification.Start(ctx, e.Epoch))
		default:
			return plain(ctx, e.Op, e.Gen, "", p.Verification.Discard(ctx))
		}
	}
}

func fingerprintOf(ctx context.Context, e machine.Call, side machine.Side, read func(context.Context) (machine.Fingerprint, error)) outcome {
	f, err := read(ctx)
	if err != nil {
		return plain(ctx, e.Op, e.Gen, "", err)
	}
	i := 0
	if side == machine.SideTarget {
		i = 1
	}
	return outcome{
		event: machine.Fingerprinted{Gen: e.Gen, Side: side, Sum: f.Sum},
		keep:  func(a *account) { a.prints[i] = &f },
	}
}

// lockLost is what a port calls when it has let a pre-lock go by itself.
func (c calls) lockLost(side machine.Side, gen uint64) func(string) {
	return func(reason string) {
		c.inbox.post(message{event: machine.LockLost{Side: side, Gen: gen, Reason: reason}})
	}
}
