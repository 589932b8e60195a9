package proxy

import (
	"context"
	"time"
)

// Status is a picture of the proxy.
type Status struct {
	Active          string `json:"active"`
	Epoch           int64  `json:"epoch"`
	Sessions        int    `json:"sessions"`
	Streams         int    `json:"streams"` // replication connections; not among Sessions
	InTransaction   int    `json:"in_transaction"`
	Parked          int    `json:"parked"`
	Waiting         int    `json:"waiting"`       // logins at the closed gate
	Closed          bool   `json:"closed"`        // the gate is closed
	Unauthenticated int    `json:"strangers"`     // connections that have not authenticated
	Crowded         int64  `json:"crowded"`       // those of them that had to give way to others, since the start
	ClientErrors    int64  `json:"client_errors"` // clients that were ended in attempts, since the start
	Revived         int64  `json:"revived"`       // sessions whose idle server went away and that continue with another
	Disconnected    int64  `json:"disconnected"`  // sessions that could not be moved and were ended
	Abandoned       int64  `json:"orphans"`       // statements that were cancelled because their client was gone
	Panics          int64  `json:"panics"`
}

// Status returns a picture of the proxy.
func (p *Proxy) Status() Status {
	now, gate := p.sides.Router.Current(), p.gate.State()
	s := Status{Active: now.Endpoint, Epoch: now.Epoch, Waiting: gate.Waiting, Closed: gate.Closed, ClientErrors: p.sessions.Struck.Sum(), Disconnected: p.sessions.Counts.Expelled.Load(), Revived: p.sessions.Counts.Revived.Load(), Abandoned: p.sessions.Counts.Abandoned.Load(), Panics: p.sessions.Counts.Panics.Load()}
	s.Unauthenticated, s.Crowded = p.logins.Count()
	s.Streams = len(p.sessions.Streams())
	for _, r := range p.sessions.List() {
		s.Sessions++
		inTransaction, parked := r.View.Stands()
		if inTransaction {
			s.InTransaction++
		}
		if parked {
			s.Parked++
		}
	}
	return s
}

// ServerPIDs returns the pg_backend_pid() of the servers of the active side. For
// a session that was never captured it is the pid of its cancel key, which a proxy
// in front of the server may have made up; after Pause all are captured.
func (p *Proxy) ServerPIDs() []int32 {
	var pids []int32
	for _, r := range p.sessions.List() {
		pids = append(pids, r.ServerPID())
	}
	for _, s := range p.sessions.Streams() {
		pids = append(pids, s.ServerPID())
	}
	return pids
}

// FailedDials counts the logins of the proxy that have brought no server, for whatever reason.
func (p *Proxy) FailedDials() int64 { return p.sides.FailedDials() }

// Attempt begins an attempt and says what is done with sessions that cannot be moved. wait bounds
// how long Stage waits for them under UnmovableWait. Without a call the policy is UnmovableAbort;
// it ends with the epoch.
func (p *Proxy) Attempt(ctx context.Context, epoch int64, policy Unmovable, wait time.Duration) error {
	return p.mover.Attempt(ctx, epoch, policy, wait)
}

// Stage makes a warm server on the other side for every session, while sessions continue where they
// are. Sessions that cannot be moved cause an *UnmovableError, or what the policy of the Attempt
// asks for; if the other side takes fewer connections than the sessions need, the error is a
// *ConnLimitError. Staging again brings warm servers up to date.
func (p *Proxy) Stage(ctx context.Context, epoch int64) (StageReport, error) {
	return p.mover.Stage(ctx, epoch)
}

// Pause closes the gate and returns when every session is parked at a boundary and no login is
// under way. After drainTimeout it opens the gate again and returns a *DrainTimeoutError; on any
// other error it is open again too. Once it has returned nil the gate stays closed until Resume or
// Switch: no timer opens it.
func (p *Proxy) Pause(ctx context.Context, epoch int64, drainTimeout time.Duration) (PauseReport, error) {
	return p.mover.Pause(ctx, epoch, drainTimeout)
}

// Restage, in the pause, captures the sessions that sent anything since their capture, stages those
// that are not, and takes over LISTEN and advisory locks of all. An error means that not every
// session can be moved: the attempt must be given up by Resume.
func (p *Proxy) Restage(ctx context.Context, epoch int64) (StageReport, error) {
	return p.mover.Restage(ctx, epoch)
}

// Switch routes to the endpoint and moves every session there. There is no way back from here: a
// session whose state cannot be made whole is ended with 57P01 and counted. Doing it again is no
// error. The end of ctx does not stop it.
func (p *Proxy) Switch(ctx context.Context, epoch int64, to string) (SwitchReport, error) {
	return p.mover.Switch(ctx, epoch, to)
}

// Resume opens the gate towards the side that is active. It undoes Pause; warm
// servers are kept for the next attempt. Doing it again is no error.
func (p *Proxy) Resume(ctx context.Context, epoch int64) error { return p.mover.Resume(ctx, epoch) }

// Discard closes the warm servers. The next Stage makes new ones.
func (p *Proxy) Discard(ctx context.Context) { p.mover.Discard(ctx) }

// Quiet holds every session between two transactions while do runs, so that it meets no locks of
// theirs. It waits for at most limit until all are held and then calls do, whether they are or not;
// do has to be short.
func (p *Proxy) Quiet(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	return p.mover.Quiet(ctx, limit, do)
}

// TakeHeld reports how long clients were held in the last pause, once the released ones have
// continued. It reports each pause once.
func (p *Proxy) TakeHeld(ctx context.Context) Held { return p.mover.TakeHeld(ctx) }

// Ended returns how many clients were ended in attempts since the start, no matter what ended them,
// and names those of the latest attempt.
func (p *Proxy) Ended() (total int, latest []SessionNote) { return p.mover.Ended() }

// Sessions lists the sessions, oldest first. With inspect, those at a boundary whose present
// verdict is not known are captured first, a few at a time, and none while the gate is closed. An
// error of the dry run itself is not reported: the verdicts are then the last known ones.
func (p *Proxy) Sessions(ctx context.Context, inspect bool) []SessionInfo {
	return p.mover.Sessions(ctx, inspect)
}
