package move

import (
	"context"
	"errors"
	"slices"
	"time"

	"crossfade/proxy/session"
	"crossfade/proxy/side"
)

// Restage, in the pause, captures the sessions that sent anything since their capture, stages those
// that are not, and takes over LISTEN and advisory locks of all. An error means that not every
// session can be moved: the attempt must be given up by Resume.
//
// Under UnmovableDisconnect it ends the sessions that cannot be moved, when all others can.
//
// Once it has returned nil, sessions live by what was captured of them: a server that goes
// away under one is not missed by Switch.
func (p *Mover) Restage(ctx context.Context, epoch int64) (StageReport, error) {
	end, err := p.begin(ctx, epoch, "restage")
	if err != nil {
		return StageReport{}, err
	}
	defer end()
	if !p.attempt.paused {
		return StageReport{}, errors.New("restage: the proxy is not paused")
	}
	start := time.Now()
	list := p.List()
	catalogs, err := p.catalogsOf(ctx, list)
	if err != nil {
		return StageReport{}, err
	}
	if err := p.learnTypes(ctx, list); err != nil {
		return StageReport{}, err
	}
	f := findings{policy: p.attempt.policy}
	to := p.Sides.Other()
	f.judgeStreams(p.Streams())
	p.each(ctx, list, p.cfg.MaxCaptures, func(ctx context.Context, r *session.Session) {
		// Notifications that were sent before all were parked arrive no later than the answer to a
		// capture: a session that listens is captured in any case.
		if r.Owner.ChangedSince() || len(r.Owner.State().Channels) > 0 {
			if err := r.Owner.Capture(ctx, catalogs[r.Database], stageTimeout); err != nil {
				f.refuse(r, "capture", err)
				return
			}
			f.count(&f.captured)
		}
		f.judge(r)
	})
	if err := errors.Join(ctx.Err(), f.err()); err != nil {
		return f.report(len(list), start), err
	}
	unmovable := f.holders()
	list = slices.DeleteFunc(list, func(r *session.Session) bool { return slices.Contains(unmovable, r) })
	p.each(ctx, list, 0, func(ctx context.Context, r *session.Session) { f.renew(ctx, r, to) })
	for _, release := range []bool{true, false} {
		if f.err() != nil || ctx.Err() != nil {
			break
		}
		p.each(ctx, list, 0, func(ctx context.Context, r *session.Session) {
			if err := r.Owner.Share(ctx, to, release); err != nil {
				f.refuse(r, "stage", err)
			}
		})
	}
	if err := errors.Join(ctx.Err(), f.err()); err != nil {
		return f.report(len(list), start), err
	}
	p.each(ctx, list, 0, func(_ context.Context, r *session.Session) { r.Owner.Keep() })
	p.expel(&f)
	return f.report(len(list), start), nil
}

// renew makes sure that a parked session has a warm server that answers. What it
// lacks of the captured state is left to the switch, unless it is new.
func (f *findings) renew(ctx context.Context, r *session.Session, to *side.Endpoint) {
	if r.Owner.Answers(ctx, to) {
		f.count(&f.staged)
		return
	}
	f.warm(ctx, r, to)
}

// Discard closes the warm servers. The next Stage makes new ones.
func (p *Mover) Discard(ctx context.Context) {
	p.Struck.End()
	p.each(ctx, p.List(), 0, func(_ context.Context, r *session.Session) {
		r.Owner.Discard()
	})
}
