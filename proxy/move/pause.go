package move

import (
	"context"
	"time"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/obs"
	"crossfade/proxy/session"
	"crossfade/proxy/side"
)

// Pause closes the gate and returns when every session is parked at a boundary and no login is
// under way. Until then each session continues, unit by unit, to its next boundary. After
// drainTimeout it opens the gate again and returns a *DrainTimeoutError; under UnmovableWait a
// *HeldError if a session has come to hold what cannot be moved; on any other error the gate is
// open again too.
//
// Once it has returned nil the gate stays closed until Resume or Switch: no timer opens it.
func (p *Mover) Pause(ctx context.Context, epoch int64, drainTimeout time.Duration) (PauseReport, error) {
	end, err := p.begin(ctx, epoch, "pause")
	if err != nil {
		return PauseReport{}, err
	}
	defer end()
	if p.attempt.paused {
		return p.pauseReport(time.Now()), nil
	}
	start := time.Now()
	p.Struck.Begin(false)
	p.Held.Reset()
	p.attempt.generation = p.gate.Close()
	p.Log.Info().Int64(obs.KeyEpoch, epoch).Msg("gate closed")
	p.Draining.Store(true)
	defer p.Draining.Store(false)
	p.HoldAll(true)

	draining, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	err = p.gate.Drained(draining)
	list := p.List()
	p.each(draining, list, p.cfg.MaxCaptures, func(ctx context.Context, r *session.Session) { r.Owner.Settle(ctx) })
	d := drain{p: p, list: list, loose: map[*session.Session]bool{}}
	if err == nil {
		err = d.run(draining)
	}
	if err != nil {
		late := &DrainTimeoutError{After: drainTimeout, Logins: p.gate.State().Leases, Prepared: d.prepared}
		for _, r := range p.List() {
			if n, busy := r.View.Busy(); busy {
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
		p.each(ctx, list, p.cfg.MaxCaptures, func(ctx context.Context, r *session.Session) {
			if r.Owner.State() == nil || p.attempt.policy == UnmovableWait && r.Owner.ChangedSince() {
				_ = r.Owner.Capture(ctx, catalogs[r.Database], stageTimeout) // Restage says what is wrong with it
			}
			if r.Owner.State() != nil {
				f.judge(r)
			}
		})
		err = ctx.Err()
	}
	if err == nil && p.attempt.policy == UnmovableWait && len(f.left()) > 0 {
		err = &HeldError{Sessions: f.left()} // before the fence: after it the attempt could not be repeated
	}
	if err != nil {
		p.open()
		return PauseReport{}, err
	}
	report := p.pauseReport(start)
	report.Took = took
	return report, nil
}

func (p *Mover) pauseReport(start time.Time) PauseReport {
	return PauseReport{Sessions: len(p.List()), Waiting: p.gate.State().Waiting, Took: time.Since(start)}
}

// explainTimeout bounds the inspection of the server processes that were in the way: the gate is
// still closed.
const explainTimeout = 300 * time.Millisecond

// explain adds what the active side's server says of the sessions that an error names.
func (p *Mover) explain(ctx context.Context, notes []session.Note) {
	if p.cfg.Explain == nil || len(notes) == 0 || p.Sides.Router.Current().Endpoint != side.Source {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	notes = notes[:min(len(notes), maxNamed)]
	pids := lists.Map(notes, func(n session.Note) int32 { return n.ServerPID })
	words := p.cfg.Explain(ctx, pids)
	for i := range notes {
		if w := words[notes[i].ServerPID]; w != "" {
			notes[i].Detail += "; " + w
		}
	}
}

// Resume opens the gate towards the side that is active. It undoes Pause; warm
// servers are kept for the next attempt. Doing it again is no error.
func (p *Mover) Resume(ctx context.Context, epoch int64) error {
	end, err := p.begin(ctx, epoch, "resume")
	if err != nil {
		return err
	}
	defer end()
	if p.attempt.paused {
		p.open()
		p.Settled(ctx)
	}
	p.Struck.End()
	return nil
}

// heldSettle is how long TakeHeld waits for released clients to continue.
const heldSettle = 200 * time.Millisecond

// TakeHeld reports how long clients were held in the last pause, once the released ones have
// continued. It reports each pause once.
func (p *Mover) TakeHeld(ctx context.Context) session.Held {
	settling, cancel := context.WithTimeout(ctx, heldSettle)
	defer cancel()
	for _, r := range p.List() {
		r.GoesOn(settling)
	}
	return p.Held.Take()
}

// Ended returns how many clients were ended in attempts since the start, no matter what ended them,
// and names those of the latest attempt.
func (p *Mover) Ended() (total int, latest []session.Note) {
	_, latest = p.Struck.OfAttempt()
	return int(p.Struck.Sum()), latest
}
