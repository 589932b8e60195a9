package cutover

import "crossfade/cutover/machine"

// Status is a snapshot of the coordinator, for `crossfade status`.
type Status struct {
	State   machine.State
	Phase   string       // the step, "following" after an attempt that failed, "on_target" once the switch was made
	Active  machine.Side // empty until the journal has been read
	Epoch   int64
	Waiting string // what it waits for; empty for nothing
	Reason  string // why an attempt is being undone or repeated
	Alarm   string
	Ready   bool // a cutover asked for now would be tried
	// Step is why the step allows no cutover, the zero Obstacle where it does; Blocked is what else
	// refuses one then.
	Step    machine.Obstacle
	Blocked []machine.Obstacle
	WayBack bool
	Notes   []string
	// Timeline and Last are of the request under way and of the one that ended last. They must not
	// be written.
	Timeline     []Moment
	Last         *Report
	Verification VerificationStatus
}

// Status may be called at any time, from any goroutine.
func (c *Coordinator) Status() Status {
	c.mu.Lock()
	s := c.mu.status
	c.mu.Unlock()
	s.Verification = c.cfg.ports(s.State.Direction).Verification.Status()
	s.Blocked = c.cfg.blocked(machine.Forward)
	s.Ready = s.Ready && len(s.Blocked) == 0
	return s
}

// publish makes the state visible to Status.
func (c *Coordinator) publish() {
	s := Status{
		State: c.state, Phase: string(c.state.Step), Epoch: c.state.Epoch, Waiting: c.state.Waiting(), Reason: c.state.Reason,
		Alarm: c.account.alarm, WayBack: c.state.WayBack, Notes: c.reporter().notes(""), Timeline: c.account.times(), Last: c.account.last,
	}
	s.Ready, s.Step = c.state.Ready()
	if c.state.Settled && c.state.Step == machine.Idle { // of no interest: an attempt has failed, and the stream continues
		s.Phase = string(machine.Following)
	}
	if c.state.Settled {
		s.Active = c.state.Active()
		if c.state.Step == machine.Decided && c.state.Active() == machine.SideTarget {
			s.Phase = "on_target"
		}
	}
	c.mu.Lock()
	c.mu.status = s
	c.mu.Unlock()
}
