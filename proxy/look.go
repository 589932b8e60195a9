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
	look.Inserted, look.Backends = r.mu.inserted, r.mu.sniffer.Backends
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
		if state, err = link.Capture(ctx, look); err != nil {
			return err
		}
		s.late.add(state)
		return r.survey(ctx, link, state)
	})
	if err != nil {
		return err
	}
	if old := s.pid.Swap(state.BackendPID); old != state.BackendPID {
		r.p.moved(r, uint32(old), uint32(state.BackendPID)) // a proxy in front of the server made up the key's
	}
	r.captured, r.frames, r.names = state, frames, look.Names
	r.mu.Lock()
	r.judge(r.captured, frames)
	r.mu.Unlock()
	return nil
}

// surveyKey is a prepared statement as the client made it, once.
type surveyKey struct {
	name, text string
	fromSQL    bool
	made       int // which of those that had the name
}

// survey asks the session's server about the prepared statements of a state that was
// captured there, but for those that it was asked about before in this attempt.
func (r *relay) survey(ctx context.Context, link *session.Link, s *session.State) error {
	key := func(st session.Statement) surveyKey {
		return surveyKey{st.Name, st.Text, st.FromSQL, r.mu.sniffer.Contexts.Times(st.Name)}
	}
	r.mu.Lock()
	r.mu.sniffer.Contexts.Actual(s)
	for name, st := range s.Statements {
		if known, ok := r.surveyed[key(st)]; ok {
			st.Under, st.Shape = known.Under, known.Shape
			s.Statements[name] = st
		}
	}
	r.mu.Unlock()
	err := link.Survey(ctx, s, func(st session.Statement) []*session.Context {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.mu.sniffer.Contexts.Candidates(st)
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.surveyed = make(map[surveyKey]session.Statement, len(s.Statements))
	for _, st := range s.Statements {
		r.surveyed[key(st)] = st
	}
	return nil
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
