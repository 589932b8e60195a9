package login

import (
	"context"
	"time"

	"crossfade/internal/base/obs"
	"crossfade/proxy/ending"
	"crossfade/proxy/session"
	"crossfade/proxy/side"
)

// errNoReplication refuses replication connections while the target is active.
var errNoReplication = ending.Fatal("0A000", "replication connections are passed to the source only, and the source is not active any more; connect to the target itself")

// stream waits at the gate, dials the source and makes a stream of the two.
func (l *login) stream(ctx context.Context) (*session.Stream, error) {
	p := l.p
	_ = l.conn.SetDeadline(time.Time{})
	if ctx.Err() != nil {
		return nil, ending.ErrShutdown
	}
	lease, err := l.admit(ctx)
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	if p.Sides.Router.Current().Endpoint != side.Source {
		return nil, errNoReplication
	}
	at := p.Sides.Source
	if !l.startup.ReplicationDatabase() {
		at.Database = nil // a physical one is connected to no database, and the name means nothing
	}
	at.Pins = nil // nothing that it sends depends on these settings
	name, conn, err := l.dial(ctx, &at)
	if err != nil {
		return nil, err
	}
	s := session.NewStream(l.base, p.Registry, l.identity(), l.conn, conn)
	_ = l.conn.SetWriteDeadline(time.Now().Add(p.cfg.LoginTimeout))
	if _, err := l.conn.Write(s.Hello(name)); err != nil {
		p.LeaveStream(s)
		side.Terminate(conn)
		return nil, ending.ErrClientGone
	}
	_ = l.conn.SetWriteDeadline(time.Time{})
	p.Log.Info().Str(obs.KeyUser, l.user).Str(obs.KeyDatabase, l.database).Msg("replication connection begins; it cannot be moved")
	return s, nil
}
