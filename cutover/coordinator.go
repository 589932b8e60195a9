package cutover

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"crossfade/cutover/machine"
)

// Coordinator drives the machine: it performs effects through the ports, and returns their results
// to it as events. One goroutine, that of Run, owns the state; calls of ports run in goroutines of
// their own, each within its bound.
type Coordinator struct {
	cfg     Config
	log     zerolog.Logger
	inbox   *inbox
	ids     atomic.Uint64
	running atomic.Bool
	settled chan struct{} // closed when the journal has been read and what it asks for was done
	ended   chan struct{} // closed when Run has returned

	// Owned by Run's goroutine.
	state    machine.State
	account  *account
	replies  map[uint64]chan answer
	due      []func()     // answers that are sent when the state has been published
	yields   []chan error // appliers that wait for the pre-lock of the target
	yielding bool
	timers   [2]*time.Timer
	calls    calls
	lanes    lanes

	mu struct {
		sync.Mutex
		status Status
	}
}

// New makes a coordinator. Run drives it.
func New(cfg Config) (*Coordinator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Nonce == nil {
		cfg.Nonce = rand.Text
	}
	c := &Coordinator{
		cfg: cfg, log: cfg.Log, inbox: &inbox{ready: make(chan struct{}, 1)},
		settled: make(chan struct{}), ended: make(chan struct{}),
		state: machine.Begin(cfg.Limits, cfg.Reverse != nil), account: newAccount(),
		replies: map[uint64]chan answer{},
	}
	c.calls, c.lanes.inbox = calls{cfg: &c.cfg, inbox: c.inbox}, c.inbox
	c.publish()
	return c, nil
}

// Settled is closed when the journal has been read and what it asks for was done: from then on the
// gate is open to the active side, and Status().Active means something. Clients should not be
// accepted before.
func (c *Coordinator) Settled() <-chan struct{} { return c.settled }

// Run recovers according to the journal, and then serves requests until ctx ends. An attempt under
// way is undone then, or completed if it may have been decided, within shutdownBound; Run returns
// nil if nothing was left to do. It may be called once. Ports must return when the context of a
// call ends: Run waits for them.
func (c *Coordinator) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("run the coordinator a second time")
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.lanes.base = base
	defer c.end(cancel)

	c.handle(message{event: machine.Started{}})
	forward := c.cfg.Forward.Replication.Tripped()
	var reverse <-chan Trip
	if c.cfg.Reverse != nil {
		reverse = c.cfg.Reverse.Replication.Tripped()
	}
	stop := ctx.Done()
	var deadline <-chan time.Time
	for {
		if stop == nil && c.quiet() {
			return nil
		}
		select {
		case <-c.inbox.ready:
			for _, m := range c.inbox.drain() {
				c.handle(m)
			}
		case t := <-forward:
			c.tripped(machine.Forward, t)
		case t := <-reverse:
			c.tripped(machine.Reverse, t)
		case <-stop:
			stop = nil
			c.handle(message{event: machine.Stopped{}})
			timer := time.NewTimer(shutdownBound)
			defer timer.Stop()
			deadline = timer.C
		case <-deadline:
			return fmt.Errorf("stop in step %s of epoch %d, waiting for %s: %w", c.state.Step, c.state.Epoch, c.state.Waiting(), ErrUndecided)
		}
	}
}

// quiet reports whether Run may end: nothing is left that only this process can do.
func (c *Coordinator) quiet() bool {
	switch c.state.Phase {
	case machine.PhaseRest, machine.PhaseComplete:
		return true
	case machine.PhaseTake:
		return c.state.Ending == machine.EndRecover
	default:
		return false
	}
}

// end cancels what is outstanding, waits for it, and answers those who wait.
func (c *Coordinator) end(cancel context.CancelFunc) {
	cancel()
	for _, t := range c.timers {
		if t != nil {
			t.Stop()
		}
	}
	c.lanes.calls.Wait()
	for _, reply := range c.replies {
		reply <- answer{report: c.reporter().report("", "stopped while waiting for "+c.state.Waiting()), err: ErrUndecided}
	}
	for _, y := range c.yields {
		y <- ErrStopped
	}
	close(c.ended)
}

func (c *Coordinator) tripped(d machine.Direction, t Trip) {
	if d == c.state.Direction && t.Epoch == c.state.Epoch {
		c.handle(message{event: machine.Tripped{Detail: t.Detail}})
	}
}

// reporter reports what is known now.
func (c *Coordinator) reporter() reporter {
	return reporter{state: c.state, account: c.account, traffic: c.cfg.Traffic, wayBack: c.cfg.Reverse != nil}
}

// handle passes one message through the machine and performs the resulting effects.
func (c *Coordinator) handle(m message) {
	if m.Call != nil {
		c.lanes.forget(m.Call)
	}
	if m.reply != nil && !c.admit(m) {
		return
	}
	m.event = c.keep(m)
	before := c.state
	next, effects := machine.Step(c.state, m.event)
	c.state = next
	if before.Phase != next.Phase {
		c.log.Debug().Str("step", string(next.Step)).Stringer("phase", next.Phase).Int64("epoch", next.Epoch).Msg("cutover moves")
	}
	c.account.observe(before, next, m.event)
	for _, e := range effects {
		c.perform(e)
	}
	c.serveYield(m)
	c.publish()
	c.sendReplies()
	if next.Settled {
		select {
		case <-c.settled:
		default:
			close(c.settled)
		}
	}
}

// keep stores what a call returned in addition to its event, unless it is late, and completes the
// event with what depends on both sides together.
func (c *Coordinator) keep(m message) machine.Event {
	r, ok := m.event.(machine.Result)
	if !ok {
		return m.event
	}
	if op, gen := r.Call(); gen != c.state.Gen || !c.state.Pending.Has(op) {
		return m.event
	}
	if m.keep != nil {
		m.keep(c.account)
	}
	if e, ok := m.event.(machine.Fingerprinted); ok && c.account.prints[0] != nil && c.account.prints[1] != nil {
		e.Detail = machine.Differences(c.state.Direction, *c.account.prints[0], *c.account.prints[1])
		return e
	}
	return m.event
}

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

// message is one entry of the coordinator's inbox.
type message struct {
	event machine.Event
	keep  func(*account) // stores what a call returned in addition to its event; called only if the call is not late
	reply chan answer    // of a request
	show  func(Moment)   // of a request
	yield chan error     // of a LockWanted
	Call  *liveCall      // the call that has ended
}

// inbox is an unbounded queue: only our own calls and timers, and operators, post into it. Posting
// never blocks, so that ports may post from their own goroutines.
type inbox struct {
	ready chan struct{} // has a token when the queue is not empty

	mu struct {
		sync.Mutex
		queue []message
	}
}

func (b *inbox) post(m message) {
	b.mu.Lock()
	b.mu.queue = append(b.mu.queue, m)
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

func (b *inbox) drain() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.mu.queue
	b.mu.queue = nil
	return q
}
