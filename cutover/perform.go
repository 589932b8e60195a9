package cutover

import (
	"time"

	"crossfade/cutover/machine"
)

// perform does what the machine asks for. It never blocks.
func (c *Coordinator) perform(effect machine.Effect) {
	switch e := effect.(type) {
	case machine.PersistStep:
		c.lanes.start(machine.OpRecord, e.Gen, e.Bound, c.calls.record(e))
	case machine.Call:
		c.lanes.start(e.Op, e.Gen, e.Bound, c.calls.port(e, c.account))
	case machine.StopCalls:
		c.lanes.stop(e.Before)
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
