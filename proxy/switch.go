package proxy

import (
	"context"
	"errors"
	"slices"
	"time"

	"crossfade/internal/obs"
	"crossfade/internal/pg"
	"crossfade/proxy/route"
)

// Switch routes to the endpoint and moves every session there: the difference to
// its warm server is replayed by the session's one owner, before any byte of the
// client is forwarded. There is no way back from here: a session whose state
// cannot be made whole is ended with 57P01 and counted. It returns when every
// session is moved or ended; doing it again is no error. The end of ctx does not
// stop it.
func (p *Proxy) Switch(ctx context.Context, epoch int64, to string) (SwitchReport, error) {
	at, err := p.cfg.endpoint(to)
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
	if p.router.Current() == there && !p.attempt.paused {
		return SwitchReport{}, nil
	}
	if !p.attempt.paused {
		return SwitchReport{}, errors.New("switch: the proxy is not paused")
	}
	if err := p.router.Switch(there); err != nil {
		return SwitchReport{}, err
	}
	start := time.Now()
	list := p.relays()
	slices.SortStableFunc(list, func(a, b *relay) int { return urgency(b) - urgency(a) })
	p.mu.Lock()
	p.mu.closed = false
	p.mu.Unlock()
	p.gate.Open(p.attempt.generation)
	p.attempt.paused = false

	var f findings
	p.each(ctx, list, p.cfg.MaxDials, func(ctx context.Context, r *relay) {
		err := r.move(ctx, at)
		switch {
		case r.ctx.Err() != nil && err == nil:
		case err != nil:
			p.struck.add(r.id, r.note("move", err.Error()), false)
			r.log.Error().Err(err).Int64(obs.KeyEpoch, epoch).Msg("session lost in the move")
			r.end(fatal(pg.CodeAdminShutdown, "the database was moved and this session could not follow: %s", err.Error()))
		default:
			f.count(&f.staged)
		}
	})
	settling, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for _, r := range list {
		r.mu.Lock()
		_ = r.await(settling, func() bool { return !r.mu.waiting })
		r.mu.Unlock()
	}
	for _, r := range list {
		r.strike()
	}
	p.struck.end()
	n, notes := p.struck.ofAttempt()
	report := SwitchReport{Moved: f.staged, ClientErrors: n, Failed: notes, Held: p.held.report(), Took: time.Since(start)}
	p.log.Info().Int64(obs.KeyEpoch, epoch).Str(obs.KeyEndpoint, to).Int("moved", report.Moved).Int("client_errors", report.ClientErrors).Msg("sessions moved")
	return report, nil
}

// urgency is greater for a session whose client waits.
func urgency(r *relay) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.waiting {
		return 1
	}
	return 0
}
