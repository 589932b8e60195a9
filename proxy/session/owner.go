package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"crossfade/proxy/ending"
	"crossfade/proxy/mirror"
	"crossfade/proxy/poll"
	"crossfade/proxy/rewrite"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

// owner is the session as the holder of its turn sees it, with what is known of it from one turn to
// the next: only the holder of the turn touches the fields after it.
type owner struct {
	*Session
	turn     chan struct{}
	captured *state.State
	frames   uint64                        // client frames at that capture
	names    []string                      // custom settings that the capture asked for
	surveyed map[surveyKey]state.Statement // prepared statements that its server was asked about
	warm     *mirror.Server
}

// Own takes the session's turn: its holder is the one owner of the session's move. The context that
// it returns ends with the session too.
func (r *owner) Own(ctx context.Context) (owned context.Context, release func(), err error) {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-r.ctx.Done():
		return nil, nil, ending.ErrEnded
	}
	if r.ctx.Err() != nil { // both were there, and select takes either
		<-r.turn
		return nil, nil, ending.ErrEnded
	}
	owned, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.ctx, cancel)
	return owned, func() {
		stop()
		cancel()
		<-r.turn
	}, nil
}

// seize waits for a boundary, stops the client there and takes the server from its pump. Until
// release the owner alone reads and writes the server. What inject holds at release is delivered to
// the client first. An error says why there was no boundary.
func (r *owner) seize(ctx context.Context) (*server, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.hold.wanted = true
	r.attend()
	for {
		err := r.await(ctx, func() bool { return r.still() || r.mu.serving.reviving })
		if err == nil && r.mu.serving.reviving {
			err = errReviving // that needs the turn, which the caller has
		}
		if err != nil {
			why := r.reason()
			r.letGo()
			return nil, &BusyError{Reason: why, err: err}
		}
		// The pump may be in a read: a deadline ends it between two messages or
		// within one, which is seen below.
		r.mu.hold.pump = pumpStopping
		r.step() // where there is no read to be ended
		s := r.mu.server
		_ = s.conn.SetReadDeadline(LongAgo)
		if err := r.await(ctx, func() bool { return r.mu.hold.pump == pumpStopped }); err != nil {
			r.readOn(s)
			r.letGo()
			return nil, &BusyError{Reason: "reply not taken by the client", err: err}
		}
		r.readOn(s)
		if r.still() && s.in.Empty() && r.mu.server == s {
			return s, nil
		}
		r.mu.hold.pump = pumpRuns
		r.step()
		if r.mu.serving.reviving {
			continue
		}
		// Half a message has come: let the pump have the rest of it.
		changed := r.mu.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		case <-r.ctx.Done():
		}
		r.mu.Lock()
		if err := errors.Join(ctx.Err(), r.ctx.Err()); err != nil {
			r.letGo()
			return nil, &BusyError{Reason: "message of the server half received", err: err}
		}
	}
}

// readOn ends the interruption of the server's pump. Called with mu locked.
func (r *Session) readOn(s *server) {
	_ = s.conn.SetReadDeadline(time.Time{})
	if r.ctx.Err() != nil {
		_ = s.conn.SetDeadline(LongAgo)
	}
}

// unseize gives the server back to the pumps.
func (r *owner) unseize() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.letGo()
}

// letGo is unseize with mu locked.
func (r *owner) letGo() {
	r.mu.hold.wanted, r.mu.hold.pump = false, pumpRuns
	r.attend()
}

// errReviving says that there is no server to be had at the moment.
var errReviving = errors.New("its server is gone and another one is being made")

// BusyError says why a session did not come to a boundary.
type BusyError struct {
	Reason string
	err    error
}

func (e *BusyError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("session does not stop: %v", e.err)
	}
	return fmt.Sprintf("session does not stop (%s): %v", e.Reason, e.err)
}

func (e *BusyError) Unwrap() error { return e.err }

// ForgetShapes makes the next capture ask the server about every prepared statement again.
func (r *owner) ForgetShapes() { r.surveyed = nil }

// State is what the last capture has found; nil for none.
func (r *owner) State() *state.State { return r.captured }

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
		r.Hold(false)
		return nil
	}
	w, err := r.ready(ctx, s, to, catalog)
	if err != nil {
		if r.ctx.Err() != nil {
			return nil
		}
		return err
	}
	r.replace(s, w)
	r.captured = nil
	r.mu.Lock()
	r.mu.judged.past() // that was another server
	r.mu.Unlock()
	r.Hold(false)
	return nil
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
	r.p.Pids.Translate(uint32(old.pid.Load()), uint32(w.Have.BackendPID), r.pid)
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
