package move

import (
	"context"
	"errors"
	"slices"
	"time"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/proxy/ending"
	"crossfade/proxy/route"
	"crossfade/proxy/session"
)

// Switch routes to the endpoint and moves every session there: the difference to its warm server is
// replayed by the session's one owner, before any byte of the client is forwarded. There is no way
// back from here: a session whose state cannot be made whole is ended with 57P01 and counted. It
// returns when every session is moved or ended; doing it again is no error. The end of ctx does not
// stop it.
func (p *Mover) Switch(ctx context.Context, epoch int64, to string) (SwitchReport, error) {
	at, err := p.sessions.Sides.Endpoint(to)
	if err != nil {
		return SwitchReport{}, err
	}
	end, err := p.begin(ctx, epoch, "switch")
	if err != nil {
		return SwitchReport{}, err
	}
	defer end()
	ctx = context.WithoutCancel(ctx)
	there := route.Route{Epoch: epoch, Endpoint: to}
	if p.sessions.Sides.Router.Current() == there && !p.attempt.paused {
		return SwitchReport{}, nil
	}
	if !p.attempt.paused {
		return SwitchReport{}, errors.New("switch: the proxy is not paused")
	}
	if err := p.sessions.Sides.Router.Switch(there); err != nil {
		return SwitchReport{}, err
	}
	start := time.Now()
	list := p.sessions.List()
	slices.SortStableFunc(list, func(a, b *session.Session) int { return urgency(b) - urgency(a) })
	p.sessions.HoldNew(false)
	p.gate.Open(p.attempt.generation)
	p.attempt.paused = false

	var f findings
	p.each(ctx, list, p.cfg.MaxDials, func(ctx context.Context, r *session.Session) {
		err := r.Owner.Move(ctx, at, p.attempt.catalogs[r.Database])
		switch {
		case r.Ended() && err == nil:
		case err != nil:
			p.sessions.Struck.Add(r.Id, r.Note("move", err.Error()), false)
			r.Log.Error().Err(err).Int64(obs.KeyEpoch, epoch).Msg("session lost in the move")
			r.End(ending.Fatal(pg.CodeAdminShutdown, "the database was moved and this session could not follow: %s", err.Error()))
		default:
			f.count(&f.staged)
		}
	})
	settling, cancel := context.WithTimeout(ctx, session.SettleTimeout)
	defer cancel()
	for _, r := range list {
		r.GoesOn(settling)
	}
	for _, r := range list {
		r.Strike()
	}
	p.sessions.Struck.End()
	n, notes := p.sessions.Struck.OfAttempt()
	report := SwitchReport{Moved: f.staged, ClientErrors: n, Failed: notes, Held: p.sessions.Held.Report(), Took: time.Since(start)}
	p.sessions.Log.Info().Int64(obs.KeyEpoch, epoch).Str(obs.KeyEndpoint, to).Int("moved", report.Moved).Int("client_errors", report.ClientErrors).Msg("sessions moved")
	return report, nil
}

// urgency is greater for a session whose client waits.
func urgency(r *session.Session) int {
	if r.View.Waits() {
		return 1
	}
	return 0
}
