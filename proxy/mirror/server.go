package mirror

import (
	"context"
	"fmt"
	"strings"

	"crossfade/internal/base/pg"
	"crossfade/proxy/backend"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// Server is a server on the other side that is ready for a session: logged in and made a mirror of
// what was captured. It belongs to the present owner of the session.
type Server struct {
	Endpoint *side.Endpoint
	Conn     *backend.Conn
	Link     *state.Link
	Login    string
	Have     *state.State // what it carries
	Want     *state.State // the state that it must have in the end
	plan     *state.Plan  // what is left to be done after the switch
	Types    *typemap.Map // nil where its side numbers types as the client knows them
	client   *typemap.Map // of the server that the state was captured at
	Late     map[string]state.LateStatement
	Async    []byte // notifications that came meanwhile, for the client
}

func (w *Server) Close() { side.Terminate(w.Conn) }

// New is a server at the endpoint that carries nothing yet. login is the role that the proxy logged
// in as; types and known translate numbers of types, of its side and of the one that the state is
// captured at.
func New(at *side.Endpoint, conn *backend.Conn, login string, types, known *typemap.Map) *Server {
	w := &Server{Endpoint: at, Conn: conn, Login: login, Types: types, client: known, Link: state.NewLink(conn.Conn, conn.Leftover(), conn.Params)}
	w.Link.Async = func(f wire.Frame) {
		if f.Type == 'A' {
			w.Async = wire.AppendFrame(w.Async, f.Type, f.Body)
		}
	}
	return w
}

// Stage makes the server a mirror of want in everything that belongs to the session alone, except
// for what would disturb it while it waits.
func (w *Server) Stage(ctx context.Context, want *state.State, role func(string) string, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, side.ReplayTimeout)
	defer cancel()
	look := want.CaptureSpec(w.Login, names)
	calm := want.Calm()
	if w.Have == nil {
		fresh, err := w.Link.Capture(ctx, look)
		if err != nil {
			return err
		}
		w.Have = fresh
	}
	if err := w.Link.Replay(ctx, state.Diff(calm, w.Have, state.Own, role)); err != nil {
		return err
	}
	have, err := w.Link.Capture(ctx, look)
	if err != nil {
		return err
	}
	mirror := have.Mirror(calm) // what the replay put there, and nothing shows
	if d := state.Compare(calm, mirror, state.Own, role); len(d) > 0 {
		return &DiffersError{differs: d}
	}
	w.Have = mirror
	w.Want, w.plan = want, state.Diff(want, w.Have, state.Own, role)
	w.Late, err = w.Link.Late(ctx, want)
	if err != nil {
		return err
	}
	return w.shapes(ctx, want)
}

// shapes compares what the prepared statements take and return with what they do where
// they were captured: numbers of types as clients know them.
func (w *Server) shapes(ctx context.Context, want *state.State) error {
	d, err := w.Link.CompareShapes(ctx, want, w.client, w.Types)
	if err == nil && len(d) > 0 {
		err = fmt.Errorf("%s: make the two alike on the target, or have the application prepare the statement again",
			strings.Join(d, "; "))
	}
	return err
}

// Statements returns what is known of the prepared statements, for their translation.
func (w *Server) Statements() []typemap.Statement {
	var list []typemap.Statement
	for name, m := range w.Link.Prepared {
		list = append(list, m.Shape.Known(name, m.Text))
	}
	return list
}

// DiffersError says in what a staged server differs from its session.
type DiffersError struct {
	differs []string
}

func (e *DiffersError) Error() string {
	return fmt.Sprintf("its server on the other side is no mirror of it: %v", e.differs)
}

// Alive makes one round trip, so that a server that is gone is found before the decision and not
// after it.
func (w *Server) Alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, side.ProbeTimeout)
	defer cancel()
	return w.Link.Ping(ctx)
}

// Shared does the part of a session's state that other sessions can feel. First
// of all sessions what is given back, then of all sessions what is taken.
func (w *Server) Shared(ctx context.Context, want *state.State, role func(string) string, release bool) error {
	ctx, cancel := context.WithTimeout(ctx, side.ReplayTimeout)
	defer cancel()
	given, taken := state.Diff(want, w.Have, state.Shared, role).Released()
	if release {
		return w.Link.Replay(ctx, given)
	}
	if err := w.Link.Replay(ctx, taken); err != nil {
		return err
	}
	w.Async = nil // from before anybody was there to notify
	have := *w.Have
	have.Channels, have.Locks = want.Channels, want.Locks
	w.Have = &have
	w.Want, w.plan = want, state.Diff(want, w.Have, state.Own, role)
	var err error
	w.Late, err = w.Link.Late(ctx, want)
	return err
}

// Finish replays what is left. Where nothing is, and nothing has come from the
// server, it takes no time.
func (w *Server) Finish(ctx context.Context) error {
	if w.plan.Empty() {
		if w.Link.Broken() == nil && pg.Quiet(w.Conn.Conn) {
			return nil
		}
		return w.Alive(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, side.ReplayTimeout)
	defer cancel()
	if err := w.Link.Replay(ctx, w.plan); err != nil {
		return err
	}
	return w.shapes(ctx, w.Want)
}
