package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"crossfade/internal/pg"
	"crossfade/proxy/session"
	"crossfade/proxy/wire"
)

// capture looks at the session on its server and remembers what it saw and when.
// The caller has the turn. stop bounds the wait for a boundary.
func (r *relay) capture(ctx context.Context, catalog *session.Catalog, stop time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, stop)
	s, err := r.seize(waiting)
	cancel()
	if err != nil {
		return err
	}
	defer r.unseize()
	return r.look(ctx, s, catalog)
}

// look is capture on a server that was seized. catalog may be nil.
func (r *relay) look(ctx context.Context, s *server, catalog *session.Catalog) error {
	r.mu.Lock()
	frames := r.mu.tracker.ClientFrames()
	look := session.Look{Login: s.login, Names: r.mu.sniffer.Names.List(), Opaque: r.mu.sniffer.Names.OpaqueReason(), Declared: r.p.cfg.TrackSettings != nil}
	look.Inserted = r.mu.inserted
	look.Unnamed, look.UnnamedLost = r.unnamedStatement()
	look.Unnamed = s.known(look.Unnamed)
	params := r.mu.params
	r.mu.Unlock()
	look.Names = append(look.Names, r.p.cfg.TrackSettings...)
	if catalog != nil {
		look.Names = append(look.Names, catalog.Names...)
		look.Dblink, look.FDW = catalog.Dblink, catalog.FDW
		look.Opaque = cmp.Or(look.Opaque, catalog.Computed)
	}

	var state *session.State
	err := r.probe(ctx, s, params, func(ctx context.Context, link *session.Link) (err error) {
		state, err = link.Capture(ctx, look)
		return err
	})
	if err != nil {
		return err
	}
	if old := s.pid.Swap(state.BackendPID); old != state.BackendPID {
		r.p.moved(r, uint32(old), uint32(state.BackendPID)) // a proxy in front of the server made up the key's
	}
	r.captured, r.frames, r.names = state.Without(r.dead), frames, look.Names
	r.mu.Lock()
	r.judge(r.captured, frames)
	r.mu.Unlock()
	return nil
}

// bury asks the session's server which of the captured statements it cannot run any
// more, and leaves them out from now on: they need not be replayed. It reports
// whether there were any. The caller has the turn.
func (r *relay) bury(ctx context.Context) bool {
	waiting, cancel := context.WithTimeout(ctx, stageTimeout)
	defer cancel()
	s, err := r.seize(waiting)
	if err != nil {
		return false
	}
	defer r.unseize()
	r.mu.Lock()
	params := r.mu.params
	r.mu.Unlock()
	var dead []string
	err = r.probe(ctx, s, params, func(ctx context.Context, link *session.Link) (err error) {
		dead, err = link.Dead(ctx, r.captured.Statements)
		return err
	})
	if err != nil || len(dead) == 0 {
		return false
	}
	if r.dead == nil {
		r.dead = map[string]string{}
	}
	for _, name := range dead {
		r.dead[name] = r.captured.Statements[name].Text
	}
	r.captured = r.captured.Without(r.dead)
	return true
}

// probe runs do on a server that was seized. What takes too long is cancelled, which
// leaves the session as it was; the server is given as long again to say so. What
// the server says of itself meanwhile is delivered to the client once it is let go.
func (r *relay) probe(ctx context.Context, s *server, params map[string]string, do func(context.Context, *session.Link) error) error {
	heard := &listener{Conn: s.conn.Conn}
	link := session.NewLink(heard, nil, params)
	var inject []byte
	link.Async = func(f wire.Frame) { inject = wire.AppendFrame(inject, f.Type, f.Body) }
	err := timely(ctx, heard, link, s.conn.Cancel, do)
	if left := link.Leftover(); len(left) > 0 {
		s.in.pre = left
	}
	if s.rewrite != nil {
		s.rewrite.pids(inject)
	}
	r.mu.Lock()
	r.mu.inject = append(r.mu.inject, inject...)
	r.mu.Unlock()
	if broken := link.Broken(); broken != nil {
		r.end(fmt.Errorf("%w: %w", errServerGone, broken))
		return broken
	}
	return err
}

// listener is a connection that counts what it hears, in bytes.
type listener struct {
	net.Conn
	heard atomic.Int64
}

func (l *listener) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	l.heard.Add(int64(n))
	return n, err
}

// timely runs do, and cancels what it asked the server when that has been silent for
// probeTimeout, or at probeLimit.
func timely(ctx context.Context, l *listener, link *session.Link, stop func(context.Context) error, do func(context.Context, *session.Link) error) error {
	hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeLimit+probeTimeout)
	defer cancel()
	ended, watched, cancelled := make(chan struct{}), make(chan struct{}), false
	go func() {
		defer close(watched)
		if cancelled = l.silent(ended, time.Now().Add(probeLimit)); !cancelled {
			return
		}
		_ = stop(hard)
		if l.silent(ended, time.Now().Add(probeTimeout)) {
			cancel()
		}
	}()
	err := do(hard, link)
	close(ended)
	<-watched // a cancel request must not hit what the client sends next
	if cancelled {
		return err
	}
	var refused *wire.ServerError
	if errors.As(err, &refused) && refused.Code == pg.CodeQueryCanceled && link.Broken() == nil {
		// A cancel request of the client's that came late has hit the probe.
		err = do(hard, link)
	}
	return err
}

// silent waits until nothing was heard for probeTimeout, or until the limit, and
// reports true; or until ended is closed, and reports false.
func (l *listener) silent(ended <-chan struct{}, limit time.Time) bool {
	tick := time.NewTicker(probeTimeout)
	defer tick.Stop()
	for q := (quiet{last: l.heard.Load(), limit: limit}); ; {
		select {
		case <-ended:
			return false
		case now := <-tick.C:
			if q.over(now, l.heard.Load()) {
				return true
			}
		}
	}
}

// quiet tells when somebody has been silent from one look to the next, or has talked
// until the limit.
type quiet struct {
	last  int64 // heard by the last look
	limit time.Time
}

func (q *quiet) over(now time.Time, heard int64) bool {
	silent := heard == q.last
	q.last = heard
	return silent || !now.Before(q.limit)
}

// changedSince reports whether the client sent anything since the capture.
func (r *relay) changedSince() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.captured == nil || r.mu.tracker.ClientFrames() != r.frames
}
