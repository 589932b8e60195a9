package session

import (
	"context"
	"fmt"

	"crossfade/proxy/mirror"
	"crossfade/proxy/side"
)

// Refresh makes the warm server a mirror of what was captured since, and reports that; one that
// cannot be is closed.
func (r *owner) Refresh(ctx context.Context, to *side.Endpoint) bool {
	w := r.warm
	if w == nil {
		return false
	}
	as, err := to.Account(r.User, r.Proof)
	if err == nil && w.Endpoint == to && w.Link.Broken() == nil && w.Login == as.Name &&
		w.Stage(ctx, r.captured, side.Roles(r.captured.Login, as.Name, to), r.names) == nil {
		return true
	}
	r.Discard() // what RESET goes back to is given at start-up only, so begin again
	return false
}

// MakeWarm makes a warm server for the session, which has none.
func (r *owner) MakeWarm(ctx context.Context, to *side.Endpoint) (err error) {
	r.warm, err = r.warmUp(ctx, to)
	return err
}

// Answers reports whether the session has a warm server that still answers; one that does not is
// closed.
func (r *owner) Answers(ctx context.Context, to *side.Endpoint) bool {
	if r.warm != nil && r.warm.Endpoint == to && r.warm.Alive(ctx) == nil {
		return true
	}
	r.Discard()
	return false
}

// Share does on the warm server the part of the session's state that other sessions can feel: what
// is given back, with release, or what is taken. A session without one has ended.
func (r *owner) Share(ctx context.Context, to *side.Endpoint, release bool) error {
	if r.warm == nil {
		return nil
	}
	return r.warm.Shared(ctx, r.captured, side.Roles(r.captured.Login, r.warm.Login, to), release)
}

// HasWarm reports that the session has a warm server.
func (r *owner) HasWarm() bool { return r.warm != nil }

// Discard closes the warm server, if there is one.
func (r *owner) Discard() {
	if r.warm != nil {
		r.warm.Close()
		r.warm = nil
	}
}

// warmUp dials a server at the endpoint and makes it a mirror of the captured
// state: replay, capture there, compare. The caller has the turn.
func (r *owner) warmUp(ctx context.Context, to *side.Endpoint) (*mirror.Server, error) {
	as, err := to.Account(r.User, r.Proof)
	if err != nil {
		return nil, err
	}
	role := side.Roles(r.captured.Login, as.Name, to)
	return r.warmUpAs(ctx, to, role, role)
}

// warmUpAs is warmUp with the translations of names of roles given: asked for those
// of the client's start-up, role for those of the captured state.
func (r *owner) warmUpAs(ctx context.Context, to *side.Endpoint, asked, role func(string) string) (*mirror.Server, error) {
	want := r.captured
	as, err := to.Account(r.User, r.Proof)
	if err != nil {
		return nil, err
	}
	database := to.DatabaseOf(r.Database)
	pins, err := to.Pinned(ctx, r.User, r.Database)
	if err != nil {
		return nil, err
	}
	types, err := r.p.Sides.TypesAt(ctx, to, r.caller())
	if err != nil {
		return nil, err
	}
	conn, err := r.p.Sides.Dial(ctx, to, as, database, r.Startup.Moved(pins, want, asked))
	if err != nil {
		return nil, fmt.Errorf("dial the %s: %w", to.Name, err)
	}
	r.mu.Lock()
	known := r.mu.server.typeMap
	r.mu.Unlock()
	w := mirror.New(to, conn, as.Name, types, known)
	if err := w.Stage(ctx, want, role, r.names); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}
