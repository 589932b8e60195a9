package cutover

import (
	"context"
	"time"

	"crossfade/cutover/machine"
)

// perform does what the machine asks for. It never blocks.
func (c *Coordinator) perform(effect machine.Effect) {
	switch e := effect.(type) {
	case machine.PersistStep:
		c.start(machine.OpRecord, e.Gen, e.Bound, c.recordCall(e))
	case machine.Call:
		c.start(e.Op, e.Gen, e.Bound, c.portCall(e))
	case machine.StopCalls:
		for _, l := range c.live {
			if l.gen < e.Before && l.op != machine.OpYieldTarget {
				l.cancel()
			}
		}
	case machine.StartTimer:
		if t := c.timers[e.Timer]; t != nil {
			t.Stop()
		}
		c.timers[e.Timer] = time.AfterFunc(e.After, func() {
			c.inbox.post(message{event: machine.TimerFired{Timer: e.Timer, Gen: e.Gen}})
		})
	case machine.Note:
		if !c.account.note(e, c.state.Tries > 0) {
			return
		}
		c.log.Info().Str("step", e.Step).Int64("epoch", c.state.Epoch).Str("detail", e.Detail).Msg("cutover step")
	case machine.Alarm:
		c.account.alarm = e.Detail
		c.log.Error().Str("step", string(c.state.Step)).Int64("epoch", c.state.Epoch).Str("detail", e.Detail).Msg("alarm")
	case machine.Answer:
		c.answer(e)
	case machine.Refuse:
		c.reply(e.ID, answer{err: &RefusedError{Obstacles: []machine.Obstacle{e.Obstacle}}})
	}
}

// outcome is what a call of a port comes to.
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
	laneNone lane = iota // calls of this lane run side by side
	laneJournal
	laneTraffic
	laneSource
	laneTarget
	laneVerification
	laneCount
)

func laneOf(o machine.Op) lane {
	switch o {
	case machine.OpTake, machine.OpClaim, machine.OpRecord:
		return laneJournal
	case machine.OpStage, machine.OpPause, machine.OpRestage, machine.OpResume, machine.OpSwitch, machine.OpDiscardStaged, machine.OpLook:
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

// start runs a call in its own goroutine, after the call before it in its lane, and posts what comes of it. Should the
// port not return at its bound, the machine's timer speaks in its place.
func (c *Coordinator) start(op machine.Op, gen uint64, bound time.Duration, run func(context.Context) outcome) {
	ctx, cancel := context.WithTimeout(c.base, bound)
	l := &liveCall{op: op, gen: gen, cancel: cancel}
	c.live = append(c.live, l)
	var before chan struct{}
	returned := make(chan struct{})
	if lane := laneOf(op); lane != laneNone {
		before, c.lanes[lane] = c.lanes[lane], returned
	}
	c.calls.Go(func() {
		defer close(returned)
		defer cancel()
		out := func() outcome {
			if !awaitTurn(ctx, before) {
				return outcome{event: machine.Failed{Op: op, Gen: gen, Class: machine.ClassFailure, Reason: "the call before it has not returned"}}
			}
			return run(ctx)
		}()
		c.inbox.post(message{event: out.event, keep: out.keep, Call: l})
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

func (c *Coordinator) forget(l *liveCall) {
	for i, other := range c.live {
		if other == l {
			c.live = append(c.live[:i], c.live[i+1:]...)
			return
		}
	}
}
