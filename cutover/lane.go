package cutover

import (
	"context"
	"slices"
	"sync"
	"time"

	"crossfade/cutover/machine"
)

// outcome is the result of a call of a port.
type outcome struct {
	event machine.Event
	keep  func(*account)
}

// liveCall is a call that has not returned.
type liveCall struct {
	op     machine.Op
	gen    uint64
	cancel context.CancelFunc
}

// lane is a port, or a part of one, whose calls are made one at a time.
type lane uint8

const (
	laneNone lane = iota // calls of this lane run concurrently
	laneJournal
	laneTraffic
	laneSource
	laneTarget
	laneVerification
	laneCount
)

// laneOf is the lane of an op.
func laneOf(o machine.Op) lane {
	switch o {
	case machine.OpTake, machine.OpClaim, machine.OpRecord:
		return laneJournal
	case machine.OpStage, machine.OpPause, machine.OpRestage, machine.OpResume, machine.OpSwitch, machine.OpDiscardStaged, machine.OpInspectSessions:
		return laneTraffic
	case machine.OpPrelockSource, machine.OpReleaseSource, machine.OpExpel, machine.OpFence, machine.OpUnfence:
		return laneSource
	case machine.OpPrelockTarget, machine.OpReleaseTarget, machine.OpYieldTarget, machine.OpRehearseDecision, machine.OpDecide:
		return laneTarget
	case machine.OpPrepareSnapshots, machine.OpOpenSnapshots, machine.OpStartVerification, machine.OpDiscardSnapshots:
		return laneVerification
	default:
		return laneNone
	}
}

// lanes runs calls, each in a goroutine of its own and within its bound, and those of one lane one
// at a time. Run's goroutine owns it.
type lanes struct {
	inbox *inbox          // receives the outcome of a call
	base  context.Context // of all calls: does not end with Run's
	live  []*liveCall
	last  [laneCount]chan struct{} // closed when the last call of the lane has returned
	calls sync.WaitGroup
}

// start runs a call in its own goroutine, after the previous call in its lane, and posts the
// outcome. If the port does not return at its bound, the machine's timer reports that.
func (l *lanes) start(op machine.Op, gen uint64, bound time.Duration, run func(context.Context) outcome) {
	ctx, cancel := context.WithTimeout(l.base, bound)
	call := &liveCall{op: op, gen: gen, cancel: cancel}
	l.live = append(l.live, call)
	var before chan struct{}
	returned := make(chan struct{})
	if lane := laneOf(op); lane != laneNone {
		before, l.last[lane] = l.last[lane], returned
	}
	l.calls.Go(func() {
		defer close(returned)
		defer cancel()
		out := func() outcome {
			if !awaitTurn(ctx, before) {
				return outcome{event: machine.Failed{Op: op, Gen: gen, Class: machine.ClassFailure, Reason: "the call before it has not returned"}}
			}
			return run(ctx)
		}()
		l.inbox.post(message{event: out.event, keep: out.keep, Call: call})
	})
}

// awaitTurn waits for the call before, at most laneGrace; false if the context ended first.
func awaitTurn(ctx context.Context, before chan struct{}) bool {
	if before == nil {
		return true
	}
	select {
	case <-before:
		return true
	default:
	}
	grace := time.NewTimer(laneGrace)
	defer grace.Stop()
	select {
	case <-before:
		return true
	case <-grace.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// forget removes a call that has returned.
func (l *lanes) forget(call *liveCall) {
	l.live = slices.DeleteFunc(l.live, func(other *liveCall) bool { return other == call })
}

// stop cancels the calls of earlier generations, except for the release that an applier waits for.
func (l *lanes) stop(before uint64) {
	for _, call := range l.live {
		if call.gen < before && call.op != machine.OpYieldTarget {
			call.cancel()
		}
	}
}

// running reports whether a call of this op has not returned.
func (l *lanes) running(o machine.Op) bool {
	return slices.ContainsFunc(l.live, func(call *liveCall) bool { return call.op == o })
}
