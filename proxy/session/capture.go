package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/proxy/ending"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

// Capture captures the session's state on its server and remembers the result and the time. The
// caller has the turn. stop bounds the wait for a boundary.
func (r *owner) Capture(ctx context.Context, catalog *state.Catalog, stop time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, stop)
	s, err := r.seize(waiting)
	cancel()
	if err != nil {
		return err
	}
	defer r.unseize()
	return r.captureSeized(ctx, s, catalog)
}

// captureSeized is capture on a server that was seized. catalog may be nil.
func (r *owner) captureSeized(ctx context.Context, s *server, catalog *state.Catalog) error {
	r.mu.Lock()
	frames := r.mu.tracker.ClientFrames()
	captureSeized := state.CaptureSpec{Login: s.login, Names: r.mu.observed.sniffer.Names.List(), Opaque: r.mu.observed.sniffer.Names.OpaqueReason(), Declared: r.p.Tracked != nil}
	captureSeized.Inserted, captureSeized.Backends = r.mu.observed.inserted, r.mu.observed.sniffer.Backends
	captureSeized.Unnamed, captureSeized.UnnamedLost = r.mu.observed.unnamedStatement()
	captureSeized.Unnamed = s.known(captureSeized.Unnamed)
	params := r.mu.observed.params
	r.mu.Unlock()
	captureSeized.Names = append(captureSeized.Names, r.p.Tracked...)
	if catalog != nil {
		captureSeized.Names = append(captureSeized.Names, catalog.Names...)
		captureSeized.Dblink, captureSeized.FDW = catalog.Dblink, catalog.FDW
		captureSeized.Opaque = cmp.Or(captureSeized.Opaque, catalog.Computed)
	}

	var captured *state.State
	err := r.probe(ctx, s, params, func(ctx context.Context, link *state.Link) (err error) {
		if captured, err = link.Capture(ctx, captureSeized); err != nil {
			return err
		}
		s.filter.Late.Add(captured)
		return r.survey(ctx, link, captured)
	})
	if err != nil {
		return err
	}
	if old := s.pid.Swap(captured.BackendPID); old != captured.BackendPID {
		r.p.Pids.Translate(uint32(old), uint32(captured.BackendPID), r.pid) // a proxy in front of the server made up the key's
	}
	r.captured, r.frames, r.names = captured, frames, captureSeized.Names
	r.mu.Lock()
	r.View.judge(r.captured, frames)
	r.mu.Unlock()
	return nil
}

// surveyKey is a prepared statement as the client made it, once.
type surveyKey struct {
	name, text string
	fromSQL    bool
	made       int // which of those that had the name
}

// survey asks the session's server about the prepared statements of a state that was captured
// there, except those that it was asked about before in this attempt.
func (r *owner) survey(ctx context.Context, link *state.Link, s *state.State) error {
	key := func(st state.Statement) surveyKey {
		return surveyKey{st.Name, st.Text, st.FromSQL, r.mu.observed.sniffer.Contexts.Times(st.Name)}
	}
	r.mu.Lock()
	r.mu.observed.sniffer.Contexts.Actual(s)
	for name, st := range s.Statements {
		if known, ok := r.surveyed[key(st)]; ok {
			st.Under, st.Shape = known.Under, known.Shape
			s.Statements[name] = st
		}
	}
	r.mu.Unlock()
	err := link.Survey(ctx, s, func(st state.Statement) []*state.Context {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.mu.observed.sniffer.Contexts.Candidates(st)
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.surveyed = make(map[surveyKey]state.Statement, len(s.Statements))
	for _, st := range s.Statements {
		r.surveyed[key(st)] = st
	}
	return nil
}

// probe runs do on a server that was seized. If it takes too long it is cancelled, which leaves the
// session as it was; the server gets the same time again to report that. What the server reports of
// itself meanwhile is delivered to the client once the server is released.
func (r *owner) probe(ctx context.Context, s *server, params map[string]string, do func(context.Context, *state.Link) error) error {
	heard := &listener{Conn: s.conn.Conn}
	link := state.NewLink(heard, nil, params)
	var inject []byte
	link.Async = func(f wire.Frame) { inject = wire.AppendFrame(inject, f.Type, f.Body) }
	err := timely(ctx, heard, link, s.conn.Cancel, do)
	if left := link.Leftover(); len(left) > 0 {
		s.in.Unread(left)
	}
	s.filter.PIDs.Frames(inject)
	r.mu.Lock()
	r.mu.first.inject = append(r.mu.first.inject, inject...)
	r.mu.Unlock()
	if broken := link.Broken(); broken != nil {
		r.End(fmt.Errorf("%w: %w", ending.ErrServerGone, broken))
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
// ProbeTimeout, or at probeLimit.
func timely(ctx context.Context, l *listener, link *state.Link, stop func(context.Context) error, do func(context.Context, *state.Link) error) error {
	hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeLimit+side.ProbeTimeout)
	defer cancel()
	ended, watched, cancelled := make(chan struct{}), make(chan struct{}), false
	go func() {
		defer close(watched)
		if cancelled = l.silent(ended, time.Now().Add(probeLimit)); !cancelled {
			return
		}
		_ = stop(hard)
		if l.silent(ended, time.Now().Add(side.ProbeTimeout)) {
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

// silent waits until nothing was heard for ProbeTimeout, or until the limit, and
// reports true; or until ended is closed, and reports false.
func (l *listener) silent(ended <-chan struct{}, limit time.Time) bool {
	tick := time.NewTicker(side.ProbeTimeout)
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

// quiet tells when someone has been silent from one look to the next, or has talked until the
// limit.
type quiet struct {
	last  int64 // heard by the last look
	limit time.Time
}

func (q *quiet) over(now time.Time, heard int64) bool {
	silent := heard == q.last
	q.last = heard
	return silent || !now.Before(q.limit)
}

// ChangedSince reports whether the client sent anything since the capture.
func (r *owner) ChangedSince() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.captured == nil || r.mu.tracker.ClientFrames() != r.frames
}

const (
	// probeLimit bounds a capture as a whole: thousands of statements at the round
	// trip of another continent, or a connection that is nearly dead.
	probeLimit = time.Minute
)
