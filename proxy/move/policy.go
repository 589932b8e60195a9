package move

import (
	"context"
	"fmt"
	"time"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/proxy/ending"
	"crossfade/proxy/session"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
)

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
	p.Struck.Begin(false)
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
		p.Log.Info().Uint64(obs.KeySession, n.Session).Str("reason", n.Detail).Msg("session waited for: it cannot be moved yet")
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
		p.Counts.Expelled.Add(1)
		f.count(&f.disconnected)
		return ending.Fatal(pg.CodeAdminShutdown, "the database is being moved and this session cannot follow: %s; connect again", why)
	}
	for _, s := range f.streams {
		p.Struck.Spare(s.Id)
		s.Log.Warn().Str(obs.KeyUser, s.User).Int64(obs.KeyEpoch, p.attempt.epoch).Msg("replication connection disconnected: it cannot be moved")
		s.End(gone(session.StreamReason.Detail))
	}
	for _, r := range f.holders() {
		why := f.because(r)
		p.Struck.Spare(r.Id)
		r.Log.Warn().Str(obs.KeyUser, r.User).Str("reason", why).Int64(obs.KeyEpoch, p.attempt.epoch).Msg("session disconnected: it cannot be moved")
		r.End(gone(why))
	}
}
