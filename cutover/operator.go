package cutover

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"crossfade/cutover/machine"
)

// Options of a request. Limits that are zero are those of the Config.
type Options struct {
	Direction   machine.Direction // empty is Forward
	DryRun      bool              // survey only, and say what would be done
	Rehearse    bool              // everything up to the decision, then undone
	AllowBypass bool              // rehearse although writers bypass the proxy
	Unmovable   machine.Unmovable // empty is UnmovableAbort
	Limits      machine.Limits
	// Show, if set, is called with each entry of the timeline as it is made, by the goroutine of
	// Run: it must not block. AtMS is the present offset, and changes if the gate is closed later.
	Show func(Moment)
}

// answer ends a request.
type answer struct {
	report Report
	err    error
}

// Cutover asks for a cutover, a rehearsal or a dry run and waits for its end. A *RefusedError says
// that nothing was begun. The end of ctx withdraws the request, with ctx's cause as the reason:
// before the decision the attempt is undone, after it the attempt continues. Either way Cutover
// waits for the end, and the report gives the outcome. It may be called from any goroutine.
func (c *Coordinator) Cutover(ctx context.Context, o Options) (Report, error) {
	o.Direction = cmp.Or(o.Direction, machine.Forward)
	o.Unmovable = cmp.Or(o.Unmovable, machine.UnmovableAbort)
	e := machine.Requested{ID: c.ids.Add(1), Direction: o.Direction, Limits: o.Limits.Or(c.cfg.Limits), AllowBypass: o.AllowBypass, Unmovable: o.Unmovable}
	switch {
	case o.DryRun && o.Rehearse:
		return Report{}, misused("a dry run cannot be a rehearsal")
	case o.DryRun:
		e.Mode = machine.ModeDryRun
	case o.Rehearse:
		e.Mode = machine.ModeRehearse
	}
	if err := errors.Join(e.Limits.Validate(), e.Unmovable.Validate()); err != nil {
		return Report{}, misused(err.Error())
	}
	reply := make(chan answer, 1)
	c.inbox.post(message{event: e, reply: reply, show: o.Show})
	left := ctx.Done()
	for {
		select {
		case a := <-reply:
			return a.report, a.err
		case <-left:
			left = nil
			c.inbox.post(message{event: machine.Withdrawn{ID: e.ID, Reason: withdrawal(ctx)}})
		case <-c.ended:
			return c.lastWord(reply)
		}
	}
}

// withdrawal says why a request is no longer wanted.
func withdrawal(ctx context.Context) string {
	if cause := context.Cause(ctx); cause != ctx.Err() {
		return cause.Error()
	}
	return "withdrawn by the command that asked for it"
}

// Advance records a step outside of an attempt: CatchingUp and Following when the replication gets
// there, Finished before our objects are dropped. It may be called from any goroutine.
func (c *Coordinator) Advance(ctx context.Context, to machine.StepName) error {
	r, err := c.request(ctx, machine.Advanced{ID: c.ids.Add(1), To: to})
	if err == nil && r.Outcome != machine.OutcomeRecorded {
		return fmt.Errorf("record step %s: %s", to, r.Reason)
	}
	return err
}

// YieldTargetLock is called by the applier when it meets TRUNCATE or DDL, which the pre-lock on the
// target would block. It returns when the pre-lock has been released; it is taken again after the
// marker. It may be called from any goroutine.
func (c *Coordinator) YieldTargetLock(ctx context.Context) error {
	y := make(chan error, 1)
	c.inbox.post(message{event: machine.LockWanted{}, yield: y})
	select {
	case err := <-y:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ended:
		return ErrStopped
	}
}

func (c *Coordinator) request(ctx context.Context, e machine.Event) (Report, error) {
	reply := make(chan answer, 1)
	c.inbox.post(message{event: e, reply: reply})
	select {
	case a := <-reply:
		return a.report, a.err
	case <-ctx.Done():
		return Report{Incomplete: true}, fmt.Errorf("%w (%w)", ErrUndecided, ctx.Err())
	case <-c.ended:
		return c.lastWord(reply)
	}
}

// lastWord is the answer to a request of a coordinator that has ended.
func (c *Coordinator) lastWord(reply <-chan answer) (Report, error) {
	select {
	case a := <-reply:
		return a.report, a.err
	default:
		return Report{}, ErrStopped
	}
}

// admit enters a request, with an account of its own if it will be tried; false if it is blocked
// from outside.
func (c *Coordinator) admit(m message) bool {
	switch e := m.event.(type) {
	case machine.Requested:
		if c.state.RefuseCutover(e.Direction) == nil { // the phase is reason enough
			found := c.cfg.blocked(e.Direction)
			if len(found) > 0 && e.Mode != machine.ModeDryRun { // which tells everything else as well
				m.reply <- answer{err: &RefusedError{Obstacles: found}}
				return false
			}
			last := c.account.last
			c.account = newAccount()
			c.account.last, c.account.show, c.account.obstacles = last, m.show, found
			c.account.ended, _ = c.cfg.Traffic.Ended()
		}
		c.replies[e.ID] = m.reply
	case machine.Advanced:
		c.replies[e.ID] = m.reply
	}
	return true
}

func (c *Coordinator) answer(e machine.Answer) {
	var r Report
	switch e.Outcome {
	case machine.OutcomePlanned:
		c.account.show, r = nil, c.reporter().plan()
		if e.Reason != "" {
			c.reply(e.ID, answer{report: r, err: fmt.Errorf("survey: %s", e.Reason)})
			return
		}
	case machine.OutcomeRecorded:
		r = Report{Outcome: e.Outcome, Epoch: c.state.Epoch}
	default:
		r = c.reporter().report(e.Outcome, e.Reason)
		c.account.last = &r
	}
	c.account.show = nil // work in the background is no step of the request
	c.reply(e.ID, answer{report: r})
}

// reply answers a request once the state that belongs to the answer has been published.
func (c *Coordinator) reply(id uint64, a answer) {
	if reply, ok := c.replies[id]; ok {
		delete(c.replies, id)
		c.due = append(c.due, func() { reply <- a })
	}
}

// sendReplies sends the answers that are due.
func (c *Coordinator) sendReplies() {
	for _, send := range c.due {
		send() // each request takes one answer, for which its channel has room
	}
	c.due = nil
}

// serveYield tells appliers that the pre-lock is gone: at once where it is not held, else when its
// release has ended.
func (c *Coordinator) serveYield(m message) {
	c.yielding = c.yielding || c.lanes.running(machine.OpYieldTarget)
	if m.yield != nil {
		c.yields = append(c.yields, m.yield)
	}
	var err error
	if m.Call != nil && m.Call.op == machine.OpYieldTarget {
		c.yielding = false
		if f, ok := m.event.(machine.Failed); ok {
			err = fmt.Errorf("release the pre-lock on the target: %s", f.Reason)
		}
	}
	if c.yielding {
		return
	}
	for _, y := range c.yields {
		y <- err
	}
	c.yields = nil
}

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
	if c.state.Settled {
		s.Active = c.state.Active()
		if c.state.Step == machine.Idle || c.state.Step == machine.Decided { // how the last attempt ended is of no interest
			s.Phase = map[machine.Side]string{machine.SideSource: string(machine.Following), machine.SideTarget: "on_target"}[s.Active]
		}
	}
	c.mu.Lock()
	c.mu.status = s
	c.mu.Unlock()
}
