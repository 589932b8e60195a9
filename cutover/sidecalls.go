package cutover

import (
	"context"
	"fmt"

	"crossfade/cutover/machine"
	"crossfade/internal/base/failpoint"
)

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
			r, err := s.PrepareFence(ctx)
			return plain(ctx, e.Op, e.Gen, fmt.Sprintf("%d tables", r.Tables), err)
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
