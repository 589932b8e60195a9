package proxy

import (
	"context"
	"errors"
	"time"

	"crossfade/proxy/session"
)

// Stage makes a warm server on the other side for every session, while sessions go
// on where they are: each is stopped at a boundary for one capture, the rest is
// done beside it. A session that comes to no boundary in time is left to the pause
// (StageReport.Unstaged). Sessions that cannot be moved make an *UnmovableError;
// the report is filled in then too. Staging again brings warm servers up to date.
func (p *Proxy) Stage(ctx context.Context, epoch int64) (StageReport, error) {
	end, err := p.begin(ctx, epoch, "stage")
	if err != nil {
		return StageReport{}, err
	}
	defer end()
	if epoch <= p.router.Current().Epoch && epoch > 0 {
		return StageReport{}, &EpochError{Asked: epoch, Now: p.router.Current().Epoch, What: "stage"}
	}
	start := time.Now()
	list := p.relays()
	names, err := p.namesOf(ctx, list)
	if err != nil {
		return StageReport{}, err
	}
	var f findings
	to := p.other()
	p.each(ctx, list, p.cfg.MaxCaptures, func(ctx context.Context, r *relay) {
		r.settle(ctx)
		err := r.capture(ctx, names[r.database], stageTimeout)
		var busy *busyError
		switch {
		case errors.As(err, &busy):
			if r.ctx.Err() == nil {
				f.add(&f.unstaged, r.note("busy", busy.reason))
			}
			return
		case err != nil:
			f.refuse(r, "capture", err)
			return
		}
		f.count(&f.captured)
		f.stage(ctx, r, to)
	})
	if err := ctx.Err(); err != nil {
		return StageReport{}, err
	}
	return f.report(len(list), start), f.err()
}

func (f *findings) report(sessions int, start time.Time) StageReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	return StageReport{Sessions: sessions, Captured: f.captured, Staged: f.staged, Unstaged: f.unstaged, Amber: f.amber, Took: time.Since(start)}
}

// refuse notes that a session cannot be moved; one that has ended need not be.
func (f *findings) refuse(r *relay, code string, err error) {
	if r.ctx.Err() == nil {
		f.add(&f.unmovable, r.note(code, err.Error()))
	}
}

// judge notes the verdict on what was captured and reports whether it can move.
func (f *findings) judge(r *relay) bool {
	verdict, reasons := r.captured.Judge()
	for _, why := range reasons {
		n := r.note(why.Code, why.Detail)
		switch {
		case why.Verdict == session.Amber:
			f.add(&f.amber, n)
		case r.ctx.Err() == nil:
			f.add(&f.unmovable, n)
		}
	}
	return verdict.Movable()
}

// stage gives a captured session its warm server. The caller has its turn.
func (f *findings) stage(ctx context.Context, r *relay, to *Endpoint) {
	if !f.judge(r) {
		return
	}
	if w := r.warm; w != nil {
		login, _, _ := to.Credentials(r.user)
		if w.endpoint == to && w.link.Broken() == nil && w.login == login &&
			w.stage(ctx, r.captured, roles(r.captured.Login, login, to), r.names) == nil {
			f.count(&f.staged)
			return
		}
		// What RESET goes back to is given at start-up only, so begin anew.
		w.close()
		r.warm = nil
	}
	w, err := r.warmUp(ctx, to)
	if err != nil {
		f.refuse(r, "stage", err)
		return
	}
	r.warm = w
	f.count(&f.staged)
}

// Restage, in the pause, captures the sessions that sent anything since their
// capture, stages those that are not, and takes over LISTEN and advisory locks of
// all. An error means that not every session can be moved: the attempt must be
// given up by Resume.
func (p *Proxy) Restage(ctx context.Context, epoch int64) (StageReport, error) {
	end, err := p.begin(ctx, epoch, "restage")
	if err != nil {
		return StageReport{}, err
	}
	defer end()
	if !p.attempt.paused {
		return StageReport{}, errors.New("restage: the proxy is not paused")
	}
	start := time.Now()
	list := p.relays()
	names, err := p.namesOf(ctx, list)
	if err != nil {
		return StageReport{}, err
	}
	var f findings
	to := p.other()
	p.each(ctx, list, p.cfg.MaxCaptures, func(ctx context.Context, r *relay) {
		if r.changedSince() {
			if err := r.capture(ctx, names[r.database], stageTimeout); err != nil {
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
	p.each(ctx, list, 0, func(ctx context.Context, r *relay) { f.renew(ctx, r, to) })
	for _, release := range []bool{true, false} {
		if f.err() != nil || ctx.Err() != nil {
			break
		}
		p.each(ctx, list, 0, func(ctx context.Context, r *relay) {
			if err := r.warm.shared(ctx, r.captured, roles(r.captured.Login, r.warm.login, to), release); err != nil {
				f.refuse(r, "stage", err)
			}
		})
	}
	if err := errors.Join(ctx.Err(), f.err()); err != nil {
		return f.report(len(list), start), err
	}
	return f.report(len(list), start), nil
}

// renew makes sure that a parked session has a warm server that answers. What it
// lacks of the captured state is left to the switch, unless it is new.
func (f *findings) renew(ctx context.Context, r *relay, to *Endpoint) {
	if w := r.warm; w != nil {
		if w.endpoint == to && w.alive(ctx) == nil {
			f.count(&f.staged)
			return
		}
		w.close()
		r.warm = nil
	}
	w, err := r.warmUp(ctx, to)
	if err != nil {
		f.refuse(r, "stage", err)
		return
	}
	r.warm = w
	f.count(&f.staged)
}

// Discard closes the warm servers. The next Stage makes new ones.
func (p *Proxy) Discard(ctx context.Context) {
	p.each(ctx, p.relays(), 0, func(_ context.Context, r *relay) {
		if r.warm != nil {
			r.warm.close()
			r.warm = nil
		}
	})
}
