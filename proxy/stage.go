package proxy

import (
	"context"
	"errors"
	"time"
)

// Stage makes a warm server on the other side for every session, while sessions go
// on where they are: each is stopped at a boundary for one capture, the rest is
// done beside it. A session that comes to no boundary in time is left to the pause
// (StageReport.Unstaged). Sessions that cannot be moved make an *UnmovableError, or
// what the policy of the Attempt says; the report is filled in then too. Staging again brings warm servers up to date.
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
	f := findings{policy: p.attempt.policy}
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
	p.awaitHeld(ctx, &f, names, to)
	if err := ctx.Err(); err != nil {
		return StageReport{}, err
	}
	return f.report(len(list), start), f.err()
}
