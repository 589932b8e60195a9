package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"crossfade/proxy/mirror"
	"crossfade/proxy/poll"
	"crossfade/proxy/rewrite"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

// Move puts the warm server in the place of the one that serves the session. The
// caller has the turn. A session that ends meanwhile is no error.
func (r *owner) Move(ctx context.Context, to *side.Endpoint, catalog *state.Catalog) error {
	stopping, cancel := context.WithTimeout(ctx, side.ReplayTimeout)
	s, err := r.seize(stopping)
	cancel()
	if errors.Is(err, errReviving) {
		// The revival waits for the turn, which we hold. Both pumps stand still until it has had
		// the turn; then it finds that the session has a server and makes none.
		r.mu.Lock()
		s, err = r.mu.server, nil
		r.mu.Unlock()
	}
	if err != nil {
		if r.ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer r.unseize()
	if s.endpoint == to {
		r.released()
		return nil
	}
	w, err := r.ready(ctx, s, to, catalog)
	if err != nil {
		if r.ctx.Err() != nil {
			return nil
		}
		return err
	}
	r.swap(s, w)
	return nil
}

// swap makes w, of the other side, the session's server and lets the client continue.
func (r *owner) swap(old *server, w *mirror.Server) {
	r.replace(old, w)
	r.captured = nil
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.judged.past() // that was another server
	r.mu.hold.gate = false
	r.attend()
}

// released makes the gate let the session continue.
func (r *owner) released() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.hold.gate = false
	r.attend()
}

// ready returns the session's warm server with nothing left to be replayed. Where
// the connection to it was lost, or there is none, one is made from the beginning.
func (r *owner) ready(ctx context.Context, s *server, to *side.Endpoint, catalog *state.Catalog) (*mirror.Server, error) {
	w := r.warm
	r.warm = nil
	if w != nil && w.Endpoint == to {
		err := w.Finish(ctx)
		if err == nil {
			return w, nil
		}
		w.Close()
		if w.Link.Broken() == nil {
			return nil, err // the server is there, and says no
		}
	} else if w != nil {
		w.Close()
	}
	if r.ChangedSince() {
		if err := r.captureSeized(ctx, s, catalog); err != nil {
			return nil, err
		}
	}
	if verdict, why := r.captured.Judge(); !verdict.Movable() {
		return nil, fmt.Errorf("it cannot be moved: %s", why[0].Detail)
	}
	w, err := r.warmUp(ctx, to)
	if err != nil {
		return nil, err
	}
	if err = w.Shared(ctx, r.captured, side.Roles(r.captured.Login, w.Login, to), false); err == nil {
		err = w.Finish(ctx)
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// replace makes w the session's server and closes the old one.
func (r *owner) replace(old *server, w *mirror.Server) {
	next := &server{
		conn: w.Conn, in: poll.NewReader(w.Conn.Conn, w.Link.Leftover()), endpoint: w.Endpoint, login: w.Login,
		filter: rewrite.Filter{
			PIDs: r.p.Pids.ClientPID, Backends: rewrite.NewBackends(r.p.Pids.BackendOf, w.Want.Numbered(rewrite.MaxNumbered)),
			Late: rewrite.NewLate(w.Late, w.Types, &r.mu.tracker),
		},
	}
	next.translated(w.Types, w.Statements())
	next.pid.Store(w.Have.BackendPID)
	r.p.moved(r.Session, uint32(old.pid.Load()), uint32(w.Have.BackendPID))
	next.filter.PIDs.Frames(w.Async)

	r.mu.Lock()
	if r.ctx.Err() != nil {
		_ = w.Conn.SetDeadline(LongAgo) // close will find it as the session's server
	}
	r.mu.first.greeting = r.greet(w)
	r.mu.first.inject = append(r.mu.first.inject, w.Async...)
	r.mu.server, r.mu.serving.lacks = next, false
	r.mu.tracker.Filter = &next.filter
	r.mu.Unlock()
	side.Terminate(old.conn)
}

// greet returns ParameterStatus messages for settings whose values differ from what the client
// knows. Called with mu locked.
func (r *owner) greet(w *mirror.Server) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(w.Link.Params)) {
		value := w.Link.Params[name]
		if name == "session_authorization" && value == w.Login {
			value = r.User
		}
		if old, ok := r.mu.observed.params[name]; !ok || old != value {
			b = wire.AppendParameterStatus(b, name, value)
			r.mu.observed.params[name] = value
		}
	}
	return b
}
