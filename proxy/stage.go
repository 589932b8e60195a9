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
// Where the other side takes fewer connections than the sessions need, nothing is made there and the error is a *RoomError.
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
	catalogs, err := p.catalogsOf(ctx, list)
	if err != nil {
		return StageReport{}, err
	}
	if err := p.learnTypes(ctx, list); err != nil {
		return StageReport{}, err
	}
	f := findings{policy: p.attempt.policy}
	to := p.other()
	if err := p.room(ctx, list, to); err != nil {
		return StageReport{}, err
	}
	f.judgeStreams(p.streams())
	p.each(ctx, list, p.cfg.MaxCaptures, func(ctx context.Context, r *relay) {
		r.settle(ctx)
		r.surveyed = nil // what they return may have changed since the last attempt
		err := r.capture(ctx, catalogs[r.database], stageTimeout)
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
	p.awaitHeld(ctx, &f, catalogs, to)
	if err := ctx.Err(); err != nil {
		return StageReport{}, err
	}
	p.warnOfLosses(f.amber)
	return f.report(len(list), start), f.err()
}

// warnOfLosses says, once for each sort of loss, how many sessions move with it.
func (p *Proxy) warnOfLosses(amber []SessionNote) {
	first, count := map[string]string{}, map[string]int{}
	for _, n := range amber {
		if count[n.Code]++; count[n.Code] == 1 {
			first[n.Code] = n.String()
		}
	}
	for _, code := range sortedKeys(first) {
		p.log.Warn().Str("code", code).Int("sessions", count[code]).Str("one", first[code]).Msg("sessions move with a loss")
	}
}
