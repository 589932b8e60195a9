package move

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"crossfade/proxy/session"
)

// Stage makes a warm server on the other side for every session, while sessions continue where they
// are: each is stopped at a boundary for one capture, the rest is done while it runs. A session
// that reaches no boundary in time is left to the pause (StageReport.Unstaged). Sessions that
// cannot be moved cause an *UnmovableError, or what the policy of the Attempt asks for; the report
// is filled in even then. Staging again brings warm servers up to date. If the other side takes
// fewer connections than the sessions need, nothing is made there and the error is a
// *ConnLimitError.
func (p *Mover) Stage(ctx context.Context, epoch int64) (StageReport, error) {
	end, err := p.begin(ctx, epoch, "stage")
	if err != nil {
		return StageReport{}, err
	}
	defer end()
	if epoch <= p.Sides.Router.Current().Epoch && epoch > 0 {
		return StageReport{}, &EpochError{Asked: epoch, Now: p.Sides.Router.Current().Epoch, What: "stage"}
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
	if err := p.checkConnLimits(ctx, list, to); err != nil {
		return StageReport{}, err
	}
	f.judgeStreams(p.Streams())
	p.each(ctx, list, p.cfg.MaxCaptures, func(ctx context.Context, r *session.Session) {
		r.Owner.Settle(ctx)
		r.Owner.ForgetShapes() // what they return may have changed since the last attempt
		err := r.Owner.Capture(ctx, catalogs[r.Database], stageTimeout)
		var busy *session.BusyError
		switch {
		case errors.As(err, &busy):
			if !r.Ended() {
				f.add(&f.unstaged, r.Note("busy", busy.Reason))
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
func (p *Mover) warnOfLosses(amber []session.Note) {
	first, count := map[string]string{}, map[string]int{}
	for _, n := range amber {
		if count[n.Code]++; count[n.Code] == 1 {
			first[n.Code] = n.String()
		}
	}
	for _, code := range slices.Sorted(maps.Keys(first)) {
		event := p.Log.Warn()
		if code == "sequence_values" { // which every application has that inserts, and hardly any reads
			event = p.Log.Info()
		}
		event.Str("code", code).Int("sessions", count[code]).Str("one", first[code]).Msg("sessions move with a loss")
	}
}

const (
	// stageTimeout bounds how long staging waits for one session's boundary; a
	// session in a long transaction is staged in the pause.
	stageTimeout = 2 * time.Second
)
