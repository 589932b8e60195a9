package login

import (
	"context"

	"crossfade/internal/base/pg"
	"crossfade/proxy/ending"
	"crossfade/proxy/route"
	"crossfade/proxy/session"
)

// isClosing reports whether the proxy is shutting down and admits no more clients.
func (p *Desk) isClosing() bool {
	return p.closing.Err() != nil
}

// admit waits at the gate, at most HoldLimit.
func (l *login) admit(ctx context.Context) (*route.Lease, error) {
	p := l.p
	waiting, cancel := context.WithTimeout(ctx, p.HoldLimit)
	defer cancel()
	stop := context.AfterFunc(p.closing, cancel)
	defer stop()
	lease, err := p.gate.Enter(waiting)
	switch {
	case p.isClosing(), ctx.Err() != nil:
		err = ending.ErrClosing
	case err != nil:
		p.Struck.Add(0, session.Note{User: l.user, Database: l.database, Client: l.conn.RemoteAddr().String(), Code: "ended",
			Detail: "its login waited at the closed gate for longer than the hold limit"}, false)
		err = ending.Fatal(pg.CodeCannotConnectNow, "the database is being moved and has not been back within %s; try again", p.HoldLimit)
	}
	if err != nil && lease != nil {
		lease.Release()
	}
	return lease, err
}
