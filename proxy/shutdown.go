package proxy

import (
	"context"
	"sync"
	"time"

	"crossfade/internal/pg"
	"crossfade/proxy/route"
)

// DefaultShutdownTimeout bounds how long open transactions may take to end when the
// proxy does: well below the 30 s after which Kubernetes kills, and longer than most
// transactions of an application.
const DefaultShutdownTimeout = 20 * time.Second

var (
	// errShutdown ends every session when the proxy does.
	errShutdown = fatal(pg.CodeAdminShutdown, "terminating connection due to administrator command")
	// errClosing refuses logins then.
	errClosing = fatal(pg.CodeCannotConnectNow, "the database system is shutting down")
)

// isClosing reports whether the proxy is about to end: nobody is let in any more.
func (p *Proxy) isClosing() bool {
	return p.closing.Err() != nil
}

// retire ends the sessions, each at its next boundary, and returns when it has told
// all of them, or with the end of ctx. New logins are refused from here on; one that
// has its server already ends as soon as it is a session.
func (p *Proxy) retire(ctx context.Context) {
	p.close()
	ctx, cancel := context.WithTimeout(ctx, p.cfg.ShutdownTimeout)
	defer cancel()
	list := p.relays()
	p.log.Info().Int("sessions", len(list)).Dur("bound", p.cfg.ShutdownTimeout).Msg("shutting down: no new logins, sessions end at their boundaries")
	for _, s := range p.streams() {
		s.end(errShutdown) // it has no boundary
	}
	var all sync.WaitGroup
	for _, r := range list {
		all.Go(func() {
			defer p.recovered(r)
			r.hold(true)
			if r.standstill(ctx) == nil {
				r.end(errShutdown)
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		p.log.Warn().Dur("bound", p.cfg.ShutdownTimeout).Msg("shutting down: open transactions are ended")
	}
}

// admit waits at the gate, at most HoldLimit.
func (l *login) admit(ctx context.Context) (*route.Lease, error) {
	p := l.p
	waiting, cancel := context.WithTimeout(ctx, p.cfg.HoldLimit)
	defer cancel()
	stop := context.AfterFunc(p.closing, cancel)
	defer stop()
	lease, err := p.gate.Enter(waiting)
	switch {
	case p.isClosing(), ctx.Err() != nil:
		err = errClosing
	case err != nil:
		p.struck.add(0, SessionNote{User: l.user, Database: l.database, Client: l.conn.RemoteAddr().String(), Code: "ended",
			Detail: "its login waited at the closed gate for longer than the hold limit"}, false)
		err = fatal(pg.CodeCannotConnectNow, "the database is being moved and has not been back within %s; try again", p.cfg.HoldLimit)
	}
	if err != nil && lease != nil {
		lease.Release()
	}
	return lease, err
}
