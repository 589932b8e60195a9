package move

import (
	"context"
	"fmt"
	"time"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/proxy/ending"
	"crossfade/proxy/session"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
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
	p.sessions.Struck.Begin(false)
	p.sessions.Held.Reset()
	p.attempt.generation = p.gate.Close()
	p.sessions.Log.Info().Int64(obs.KeyEpoch, epoch).Msg("gate closed")
	p.sessions.Draining.Store(true)
	defer p.sessions.Draining.Store(false)
	p.sessions.HoldAll(true)

	draining, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	err = p.gate.Drained(draining)
	list := p.sessions.List()
	p.each(draining, list, p.cfg.MaxCaptures, func(ctx context.Context, r *session.Session) { r.Owner.Settle(ctx) })
	d := drain{p: p, list: list, loose: map[*session.Session]bool{}}
	if err == nil {
		err = d.run(draining)
	}
	if err != nil {
		late := &DrainTimeoutError{After: drainTimeout, Logins: p.gate.State().Leases, Prepared: d.prepared}
		for _, r := range p.sessions.List() {
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
	return PauseReport{Sessions: len(p.sessions.List()), Waiting: p.gate.State().Waiting, Took: time.Since(start)}
}

// explainTimeout bounds the inspection of the server processes that were in the way: the gate is
// still closed.
const explainTimeout = 300 * time.Millisecond

// explain adds what the active side's server says of the sessions that an error names.
func (p *Mover) explain(ctx context.Context, notes []session.Note) {
	if p.cfg.Explain == nil || len(notes) == 0 || p.sessions.Sides.Router.Current().Endpoint != side.Source {
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
		p.sessions.Settled(ctx)
	}
	p.sessions.Struck.End()
	return nil
}

// heldSettle is how long TakeHeld waits for released clients to continue.
const heldSettle = 200 * time.Millisecond

// TakeHeld reports how long clients were held in the last pause, once the released ones have
// continued. It reports each pause once.
func (p *Mover) TakeHeld(ctx context.Context) session.Held {
	settling, cancel := context.WithTimeout(ctx, heldSettle)
	defer cancel()
	for _, r := range p.sessions.List() {
		r.GoesOn(settling)
	}
	return p.sessions.Held.Take()
}

// Ended returns how many clients were ended in attempts since the start, no matter what ended them,
// and names those of the latest attempt.
func (p *Mover) Ended() (total int, latest []session.Note) {
	_, latest = p.sessions.Struck.OfAttempt()
	return int(p.sessions.Struck.Sum()), latest
}

// Quiet holds every session between two transactions while do runs, so that it meets no locks of
// theirs. It waits for at most limit until all are held and then calls do, whether they are or not;
// do has to be short. The gate is open again when Quiet returns, with the error of do. In a pause
// it calls do at once, and leaves the gate closed.
func (p *Mover) Quiet(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	if err := takeTurn(ctx, p.verb); err != nil {
		return err
	}
	defer func() { <-p.verb }()
	if p.attempt.paused {
		return do(ctx)
	}
	p.attempt.generation = p.gate.Close()
	defer p.open()
	p.sessions.HoldAll(true)
	standing, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, r := range p.sessions.List() {
		if r.Standstill(standing) != nil {
			break
		}
	}
	return do(ctx)
}

// StageReport is the outcome of Stage and Restage.
type StageReport struct {
	Sessions int            `json:"sessions"`
	Captured int            `json:"captured"` // inspected in this call
	Staged   int            `json:"staged"`   // that have a warm server which is their mirror
	Unstaged []session.Note `json:"unstaged"` // without a boundary in time; left to the pause
	Amber    []session.Note `json:"amber"`    // that move with a loss
	// Unmovable are the sessions that cannot be moved and that the policy lets be: waited
	// for, to be disconnected (by Restage) or named. With UnmovableAbort they are the error.
	Unmovable    []session.Note `json:"unmovable"`
	Disconnected int            `json:"disconnected"` // of these, ended by this call
	Took         time.Duration  `json:"-"`
}

// PauseReport is the outcome of Pause.
type PauseReport struct {
	Sessions int           `json:"sessions"`
	Waiting  int           `json:"waiting"` // logins that wait at the gate
	Took     time.Duration `json:"-"`       // from the gate's closing until all were parked
}

// SwitchReport is the outcome of Switch.
type SwitchReport struct {
	Moved        int            `json:"moved"`
	ClientErrors int            `json:"client_errors"` // clients that were ended since the attempt began, see Failed
	Failed       []session.Note `json:"failed"`
	Held         session.Held   `json:"held"`
	Took         time.Duration  `json:"-"`
}

// Unmovable says what a move does with sessions that cannot be moved.
type Unmovable string

const (
	// UnmovableAbort: Stage and Restage return an *UnmovableError. The default.
	UnmovableAbort Unmovable = "abort"
	// UnmovableWait: Stage waits for sessions that hold state which they may release, and Pause
	// checks again. What is left then is a *HeldError.
	UnmovableWait Unmovable = "wait"
	// UnmovableDisconnect: Restage ends them with 57P01 and names them.
	UnmovableDisconnect Unmovable = "disconnect"
	// UnmovableName: they are named and left alone; no Switch may follow.
	UnmovableName Unmovable = "name"
)

// holdPoll is how often Stage checks whether a session that it waits for has sent anything: only
// then is it captured again.
const holdPoll = 50 * time.Millisecond

// Attempt begins an attempt and says what is done with sessions that cannot be moved. wait bounds
// how long Stage waits for them under UnmovableWait. Without a call the policy is UnmovableAbort;
// it ends with the epoch.
func (p *Mover) Attempt(ctx context.Context, epoch int64, policy Unmovable, wait time.Duration) error {
	switch policy {
	case "":
		policy = UnmovableAbort
	case UnmovableAbort, UnmovableWait, UnmovableDisconnect, UnmovableName:
	default:
		return fmt.Errorf("policy %q for sessions that cannot be moved is not known", policy)
	}
	end, err := p.begin(ctx, epoch, "attempt")
	if err != nil {
		return err
	}
	defer end()
	p.attempt.policy, p.attempt.wait = policy, wait
	p.sessions.Struck.Begin(false)
	return nil
}

// lenient reports whether the policy lets a session with this verdict be, instead
// of giving up the attempt.
func (u Unmovable) lenient(v state.Verdict) bool {
	switch u {
	case UnmovableWait:
		return v == state.Hold
	case UnmovableDisconnect, UnmovableName:
		return true
	}
	return false
}

// awaitHeld waits for sessions that hold what cannot be moved, and stages those that release it.
// What is left when the attempt's wait is over stays in f.
func (p *Mover) awaitHeld(ctx context.Context, f *findings, catalogs map[string]*state.Catalog, to *side.Endpoint) {
	if p.attempt.policy != UnmovableWait {
		return
	}
	for _, n := range f.left() {
		p.sessions.Log.Info().Uint64(obs.KeySession, n.Session).Str("reason", n.Detail).Msg("session waited for: it cannot be moved yet")
	}
	bound := time.NewTimer(p.attempt.wait)
	defer bound.Stop()
	poll := time.NewTicker(holdPoll)
	defer poll.Stop()
	for {
		list := f.holders()
		if len(list) == 0 {
			return
		}
		select {
		case <-poll.C:
		case <-bound.C:
			return
		case <-ctx.Done():
			return
		}
		p.each(ctx, list, p.cfg.MaxCaptures, func(ctx context.Context, r *session.Session) {
			if !r.Owner.ChangedSince() || !r.View.Resting() || r.Owner.Capture(ctx, catalogs[r.Database], stageTimeout) != nil {
				return
			}
			f.count(&f.captured)
			f.stage(ctx, r, to)
		})
	}
}

// expel ends the sessions that cannot be moved, at the end of Restage.
func (p *Mover) expel(f *findings) {
	if p.attempt.policy != UnmovableDisconnect {
		return
	}
	gone := func(why string) error {
		p.sessions.Counts.Expelled.Add(1)
		f.count(&f.disconnected)
		return ending.Fatal(pg.CodeAdminShutdown, "the database is being moved and this session cannot follow: %s; connect again", why)
	}
	for _, s := range f.streams {
		p.sessions.Struck.Spare(s.Id)
		s.Log.Warn().Str(obs.KeyUser, s.User).Int64(obs.KeyEpoch, p.attempt.epoch).Msg("replication connection disconnected: it cannot be moved")
		s.End(gone(session.StreamReason.Detail))
	}
	for _, r := range f.holders() {
		why := f.because(r)
		p.sessions.Struck.Spare(r.Id)
		r.Log.Warn().Str(obs.KeyUser, r.User).Str("reason", why).Int64(obs.KeyEpoch, p.attempt.epoch).Msg("session disconnected: it cannot be moved")
		r.End(gone(why))
	}
}
