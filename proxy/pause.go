package proxy

import (
	"context"
	"errors"
	"time"

	"crossfade/internal/obs"
	"crossfade/proxy/wire"
)

// Pause closes the gate and returns when every session stands at a boundary and
// no login is being made. Until then sessions go on, unit by unit, to the next
// boundary each. After drainTimeout it opens the gate again and returns a
// *DrainTimeoutError; under UnmovableWait a *HeldError where a session has come to
// hold what cannot be moved; on any other error the gate is open again too.
//
// Once it has returned nil the gate stays closed until Resume or Switch: no timer
// opens it.
func (p *Proxy) Pause(ctx context.Context, epoch int64, drainTimeout time.Duration) (PauseReport, error) {
	end, err := p.begin(ctx, epoch, "pause")
	if err != nil {
		return PauseReport{}, err
	}
	defer end()
	if p.attempt.paused {
		return p.pauseReport(time.Now()), nil
	}
	start := time.Now()
	p.struck.begin(false)
	p.held.reset()
	p.attempt.generation = p.gate.Close()
	p.log.Info().Int64(obs.KeyEpoch, epoch).Msg("gate closed")
	p.draining.Store(true)
	defer p.draining.Store(false)
	p.holdAll(true)

	draining, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	err = p.gate.Drained(draining)
	list := p.relays()
	p.each(draining, list, p.cfg.MaxCaptures, func(ctx context.Context, r *relay) { r.settle(ctx) })
	d := drain{p: p, list: list, loose: map[*relay]bool{}}
	if err == nil {
		err = d.run(draining)
	}
	if err != nil {
		late := &DrainTimeoutError{After: drainTimeout, Logins: p.gate.State().Leases, Prepared: d.prepared}
		for _, r := range p.relays() {
			if n, busy := r.busy(); busy {
				if why := d.waits[r]; why != "" {
					n.Detail += "; " + why
				}
				late.Sessions = append(late.Sessions, n)
			}
		}
		if ctx.Err() == nil {
			p.explain(ctx, late.Sessions)
		}
		p.open()
		if ctx.Err() != nil {
			return PauseReport{}, ctx.Err()
		}
		return PauseReport{}, late
	}
	p.attempt.paused = true
	took := time.Since(start)

	// Sessions that came after staging have never told the pid of their server.
	catalogs, err := p.catalogsOf(ctx, list)
	f := findings{policy: p.attempt.policy}
	if err == nil {
		p.each(ctx, list, p.cfg.MaxCaptures, func(ctx context.Context, r *relay) {
			if r.captured == nil || p.attempt.policy == UnmovableWait && r.changedSince() {
				_ = r.capture(ctx, catalogs[r.database], stageTimeout) // Restage says what is wrong with it
			}
			if r.captured != nil {
				f.judge(r)
			}
		})
		err = ctx.Err()
	}
	if err == nil && p.attempt.policy == UnmovableWait && len(f.left()) > 0 {
		err = &HeldError{Sessions: f.left()} // before the fence: behind it the attempt could not be repeated
	}
	if err != nil {
		p.open()
		return PauseReport{}, err
	}
	report := p.pauseReport(start)
	report.Took = took
	return report, nil
}

func (p *Proxy) pauseReport(start time.Time) PauseReport {
	s := p.Status()
	return PauseReport{Sessions: s.Sessions, Waiting: s.Waiting, Took: time.Since(start)}
}

// explainTimeout bounds the look at the server processes that were in the way: the gate
// is still closed.
const explainTimeout = 300 * time.Millisecond

// explain adds what the active side's server says of the sessions that an error names.
func (p *Proxy) explain(ctx context.Context, notes []SessionNote) {
	if p.cfg.Explain == nil || len(notes) == 0 || p.router.Current().Endpoint != Source {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	notes = notes[:min(len(notes), maxNamed)]
	var pids []int32
	for _, n := range notes {
		pids = append(pids, n.ServerPID)
	}
	words := p.cfg.Explain(ctx, pids)
	for i := range notes {
		if w := words[notes[i].ServerPID]; w != "" {
			notes[i].Detail += "; " + w
		}
	}
}

// standstill waits until the session is parked. One that ends is at rest as well.
func (r *relay) standstill(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.await(ctx, func() bool { return r.still() && !r.toClient.Load() })
	if errors.Is(err, errEnded) {
		return nil
	}
	return err
}

// reasonAborted is why a session is busy whose transaction has failed.
const reasonAborted = "in an aborted transaction, of which only the ROLLBACK is left"

// busy says what keeps a session from standing still.
func (r *relay) busy() (SessionNote, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	why := r.reason()
	if why == "" || r.ctx.Err() != nil {
		return SessionNote{}, false
	}
	if why == wire.ReasonTransaction && r.mu.tracker.Status() == 'E' {
		why = reasonAborted
	}
	return r.noted("busy", why), true
}

// Resume opens the gate towards the side that is active. It undoes Pause; warm
// servers are kept for the next attempt. Doing it again is no error.
func (p *Proxy) Resume(ctx context.Context, epoch int64) error {
	end, err := p.begin(ctx, epoch, "resume")
	if err != nil {
		return err
	}
	defer end()
	if p.attempt.paused {
		p.open()
		p.settled(ctx)
	}
	p.struck.end()
	return nil
}

// heldSettle is how long TakeHeld waits for clients that were let go to go on.
const heldSettle = 200 * time.Millisecond

// TakeHeld tells how long clients were held in the last pause, once those that were let
// go have gone on. It tells each pause once.
func (p *Proxy) TakeHeld(ctx context.Context) Held {
	settling, cancel := context.WithTimeout(ctx, heldSettle)
	defer cancel()
	for _, r := range p.relays() {
		r.mu.Lock()
		_ = r.await(settling, func() bool { return !r.mu.waiting })
		r.mu.Unlock()
	}
	return p.held.take()
}

// Ended returns how many clients were ended in attempts since the start, whoever ended
// them, and names those of the latest attempt.
func (p *Proxy) Ended() (total int, latest []SessionNote) {
	_, latest = p.struck.ofAttempt()
	return int(p.struck.sum()), latest
}
