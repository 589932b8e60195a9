package proxy

import (
	"context"
	"fmt"
	"strings"

	"crossfade/internal/pg"
	"crossfade/proxy/backend"
	"crossfade/proxy/session"
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// warm is a server on the other side that stands ready for a session: logged in
// and made a mirror of what was captured. It belongs to the owner of the moment.
type warm struct {
	endpoint *Endpoint
	conn     *backend.Conn
	link     *session.Link
	login    string
	have     *session.State // what it carries
	want     *session.State // what it is to carry in the end
	plan     *session.Plan  // what is left to be done after the switch
	types    *typemap.Map   // nil where its side numbers types as the client knows them
	client   *typemap.Map   // of the server that the state was captured at
	late     map[string]session.LateStatement
	async    []byte // notifications that came meanwhile, for the client
}

func (w *warm) close() { terminate(w.conn) }

// warmUp dials a server at the endpoint and makes it a mirror of the captured
// state: replay, capture there, compare. The caller has the turn.
func (r *relay) warmUp(ctx context.Context, to *Endpoint) (*warm, error) {
	as, err := to.account(r.user, r.proof)
	if err != nil {
		return nil, err
	}
	role := roles(r.captured.Login, as.name, to)
	return r.warmUpAs(ctx, to, role, role)
}

// warmUpAs is warmUp with the translations of names of roles given: asked for those
// of the client's start-up, role for those of the captured state.
func (r *relay) warmUpAs(ctx context.Context, to *Endpoint, asked, role func(string) string) (*warm, error) {
	want := r.captured
	as, err := to.account(r.user, r.proof)
	if err != nil {
		return nil, err
	}
	database := to.database(r.database)
	pins, err := to.pins(ctx, r.user, r.database)
	if err != nil {
		return nil, err
	}
	types, err := r.p.typesAt(ctx, to, r.caller())
	if err != nil {
		return nil, err
	}
	conn, err := r.p.dial(ctx, to, as, database, r.startup.Moved(pins, want, asked))
	if err != nil {
		return nil, fmt.Errorf("dial the %s: %w", to.Name, err)
	}
	w := &warm{endpoint: to, conn: conn, login: as.name, types: types, link: session.NewLink(conn.Conn, conn.Leftover(), conn.Params)}
	r.mu.Lock()
	w.client = r.mu.server.typeMap
	r.mu.Unlock()
	w.link.Async = func(f wire.Frame) {
		if f.Type == 'A' {
			w.async = wire.AppendFrame(w.async, f.Type, f.Body)
		}
	}
	if err := w.stage(ctx, want, role, r.names); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// stage makes the server a mirror of want in all that belongs to the session
// alone, but for what would disturb it while it waits.
func (w *warm) stage(ctx context.Context, want *session.State, role func(string) string, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	look := want.Look(w.login, names)
	calm := want.Calm()
	if w.have == nil {
		fresh, err := w.link.Capture(ctx, look)
		if err != nil {
			return err
		}
		w.have = fresh
	}
	if err := w.link.Replay(ctx, session.Diff(calm, w.have, session.Own, role)); err != nil {
		return err
	}
	have, err := w.link.Capture(ctx, look)
	if err != nil {
		return err
	}
	mirror := have.Mirror(calm) // what the replay put there, and nothing shows
	if d := session.Compare(calm, mirror, session.Own, role); len(d) > 0 {
		return &mirrorError{differs: d}
	}
	w.have = mirror
	w.want, w.plan = want, session.Diff(want, w.have, session.Own, role)
	w.late, err = w.link.Late(ctx, want)
	if err != nil {
		return err
	}
	return w.shapes(ctx, want)
}

// shapes compares what the prepared statements take and return with what they do where
// they were captured: numbers of types as clients know them.
func (w *warm) shapes(ctx context.Context, want *session.State) error {
	d, err := w.link.CompareShapes(ctx, want, w.client, w.types)
	if err == nil && len(d) > 0 {
		err = &shapeError{differs: d}
	}
	return err
}

// shapeError says in what prepared statements differ between the sides.
type shapeError struct{ differs []string }

func (e *shapeError) Error() string {
	return fmt.Sprintf("%s: make the two alike on the target, or have the application prepare the statement again", strings.Join(e.differs, "; "))
}

// statements returns what is known of the prepared statements, for their translation.
func (w *warm) statements() []typemap.Statement {
	var list []typemap.Statement
	for name, m := range w.link.Prepared {
		list = append(list, m.Shape.Known(name, m.Text))
	}
	return list
}

// mirrorError says in what a staged server differs from its session.
type mirrorError struct {
	differs []string
}

func (e *mirrorError) Error() string {
	return fmt.Sprintf("its server on the other side is no mirror of it: %v", e.differs)
}

// alive makes one round trip, so that a server that is gone is found before the
// decision and not behind it.
func (w *warm) alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return w.link.Ping(ctx)
}

// shared does the part of a session's state that other sessions can feel. First
// of all sessions what is given back, then of all sessions what is taken.
func (w *warm) shared(ctx context.Context, want *session.State, role func(string) string, release bool) error {
	ctx, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	given, taken := session.Diff(want, w.have, session.Shared, role).Released()
	if release {
		return w.link.Replay(ctx, given)
	}
	if err := w.link.Replay(ctx, taken); err != nil {
		return err
	}
	w.async = nil // from before anybody was there to notify
	have := *w.have
	have.Channels, have.Locks = want.Channels, want.Locks
	w.have = &have
	w.want, w.plan = want, session.Diff(want, w.have, session.Own, role)
	var err error
	w.late, err = w.link.Late(ctx, want)
	return err
}

// finish replays what is left. Where nothing is, and nothing has come from the
// server, it takes no time.
func (w *warm) finish(ctx context.Context) error {
	if w.plan.Empty() {
		if w.link.Broken() == nil && pg.Quiet(w.conn.Conn) {
			return nil
		}
		return w.alive(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	if err := w.link.Replay(ctx, w.plan); err != nil {
		return err
	}
	return w.shapes(ctx, w.want)
}
