package proxy

import (
	"context"
	"errors"
	"fmt"

	"crossfade/proxy/wire"
)

// move puts the warm server in the place of the one that serves the session. The
// caller has the turn. A session that ends meanwhile is no error.
func (r *relay) move(ctx context.Context, to *Endpoint) error {
	stopping, cancel := context.WithTimeout(ctx, replayTimeout)
	s, err := r.seize(stopping)
	cancel()
	if errors.Is(err, errReviving) {
		// The revival waits for the turn, which is ours. Both pumps stand still until it
		// has had it, and then it finds the session served: what it would make is not
		// needed any more.
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
	w, err := r.ready(ctx, s, to)
	if err != nil {
		if r.ctx.Err() != nil {
			return nil
		}
		return err
	}
	r.swap(s, w)
	return nil
}

// swap makes w, of the other side, the session's server and lets the client go on.
func (r *relay) swap(old *server, w *warm) {
	r.replace(old, w)
	r.captured = nil
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.judged.past() // that was another server
	r.mu.gate = false
	r.attend()
}

// released has the gate let the session go.
func (r *relay) released() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.gate = false
	r.attend()
}

// ready returns the session's warm server with nothing left to be replayed. Where
// the connection to it was lost, or there is none, one is made from the beginning.
func (r *relay) ready(ctx context.Context, s *server, to *Endpoint) (*warm, error) {
	w := r.warm
	r.warm = nil
	if w != nil && w.endpoint == to {
		err := w.finish(ctx)
		if err == nil {
			return w, nil
		}
		w.close()
		if w.link.Broken() == nil {
			return nil, err // the server is there, and says no
		}
	} else if w != nil {
		w.close()
	}
	if r.changedSince() {
		if err := r.look(ctx, s, r.p.attempt.catalogs[r.database]); err != nil {
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
	if err = w.shared(ctx, r.captured, roles(r.captured.Login, w.login, to), false); err == nil {
		err = w.finish(ctx)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// replace makes w the session's server and closes the old one.
func (r *relay) replace(old *server, w *warm) {
	next := &server{
		conn: w.conn, in: newReader(w.conn.Conn, w.link.Leftover()), endpoint: w.endpoint, login: w.login,
		rewrite: &rewriter{translate: r.p.clientPID}, numbers: &backendNumbers{p: r.p, statements: w.want.Numbered(maxNumbered)},
	}
	next.translated(w.types, w.statements())
	next.late = newLate(w.late, w.types)
	next.pid.Store(w.have.BackendPID)
	r.p.moved(r, uint32(old.pid.Load()), uint32(w.have.BackendPID))
	next.rewrite.pids(w.async)

	r.mu.Lock()
	if r.ctx.Err() != nil {
		_ = w.conn.SetDeadline(longAgo) // close will find it as the session's server
	}
	r.mu.greeting = r.greet(w)
	r.mu.inject = append(r.mu.inject, w.async...)
	r.mu.server, r.mu.lacks = next, false
	r.mu.Unlock()
	terminate(old.conn)
}

// greet returns ParameterStatus messages for what the client has been told
// otherwise. Called with mu locked.
func (r *relay) greet(w *warm) []byte {
	var b []byte
	for _, name := range sortedKeys(w.link.Params) {
		value := w.link.Params[name]
		if name == "session_authorization" && value == w.login {
			value = r.user
		}
		if old, ok := r.mu.params[name]; !ok || old != value {
			b = wire.AppendParameterStatus(b, name, value)
			r.mu.params[name] = value
		}
	}
	return b
}
