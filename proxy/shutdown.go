package proxy

import (
	"context"
	"sync"
	"time"

	"crossfade/proxy/ending"
)

// DefaultShutdownTimeout bounds how long open transactions may take to end when the
// proxy does: well below the 30 s after which Kubernetes kills, and longer than most
// transactions of an application.
const DefaultShutdownTimeout = 20 * time.Second

// retire ends the sessions, each at its next boundary, and returns when it has told all of them, or
// when ctx ends. New logins are refused from here on; one that has its server already ends as soon
// as it is a session.
func (p *Proxy) retire(ctx context.Context) {
	p.logins.Close()
	ctx, cancel := context.WithTimeout(ctx, p.cfg.ShutdownTimeout)
	defer cancel()
	list := p.sessions.List()
	p.log.Info().Int("sessions", len(list)).Dur("bound", p.cfg.ShutdownTimeout).Msg("shutting down: no new logins, sessions end at their boundaries")
	for _, s := range p.sessions.Streams() {
		s.End(ending.ErrShutdown) // it has no boundary
	}
	var all sync.WaitGroup
	for _, r := range list {
		all.Go(func() {
			defer p.sessions.Recovered(r)
			r.Hold(true)
			if r.Standstill(ctx) == nil {
				r.End(ending.ErrShutdown)
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		p.log.Warn().Dur("bound", p.cfg.ShutdownTimeout).Msg("shutting down: open transactions are ended")
	}
}
