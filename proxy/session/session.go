package session

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"crossfade/internal/base/lists"
	"crossfade/proxy/auth"
	"crossfade/proxy/ending"
	"crossfade/proxy/poll"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

// Session is one session: a client, the server that serves it now, and between them
// the engine or two pumps.
//
// Locks, in the order in which they are taken: Registry.mu, cw, mu. Nobody waits on a network under
// Registry.mu or mu. The owner's turn is held across all of them, for the length of one operation.
type Session struct {
	Identity
	life
	p   *Registry
	Log zerolog.Logger

	client net.Conn
	in     *poll.Reader // of the client; its pump's
	// cw is held over a write to the client, and over the observation of what is written: its
	// holder knows whether the client is between two frames.
	cw sync.Mutex

	// Set while a pump has bytes that are observed and not written yet.
	toServer, toClient atomic.Bool
	// attention says that something waits for this session to stop, so that the pumps must announce
	// every step. It mirrors gate, wanted, settling, reviving and half.
	attention atomic.Bool

	mu shared

	up    clientPump
	down  serverPump
	Owner owner
	View  View
	work  work
}

// Identity is who the client is. It does not change once the session is registered.
type Identity struct {
	Id       uint64
	Proof    auth.Proof // what the client proved itself by; in memory only
	User     string     // as the client knows them
	Database string
	Startup  state.Startup
	began    time.Time
	pid      uint32 // as the client knows it
	Key      []byte
}

// life is how the session ends.
type life struct {
	// ctx ends when the session does, with the reason as its cause.
	ctx context.Context
	End context.CancelCauseFunc

	over          func() // called when nothing of the session is left
	stopInterrupt func() bool
	abandoned     bool // its server was asked to cancel a statement of a client that is gone; the client pump's, then close's
}

// shared is what all who have to do with the session see of it, under its mutex.
type shared struct {
	sync.Mutex
	tracker wire.Tracker
	server  *server
	changed chan struct{} // closed and replaced at every step, while attention is set

	hold       hold
	serving    serving
	end        clientEnd
	parking    parking
	first      first
	observed   observed
	attachment attachment // in the engine

	judged judged // by the last capture
	seen   seen
}

// locked asks something about the session, under its lock.
func (s *shared) locked(is func() bool) bool {
	s.Lock()
	defer s.Unlock()
	return is()
}

// hold is who wants the session to stop.
type hold struct {
	gate     bool // the gate holds the session
	wanted   bool // an owner wants the server, or has it
	settling bool // the side check has the client stopped
	pump     stopping
	cancels  int // cancel requests on their way to the server
}

// stopping is what the server's pump is asked to do.
type stopping uint8

const (
	pumpRuns     stopping = iota
	pumpStopping          // it is to stop
	pumpStopped           // it has stopped
)

// serving is how the server fares.
type serving struct {
	reviving bool   // it is gone, and another one is being made
	kept     bool   // the session continues from what was captured of it, whatever happens to its server
	lacks    bool   // it does: its server is gone
	taken    uint64 // bytes of the servers that the pump has taken
}

// clientEnd is what is known of the client's end of its connection.
type clientEnd struct {
	half bool // the client sends no more, and still has answers to come
	dead bool // the client no longer exists: what the server sends is dropped
}

// parking is what the client's pump does while it may not forward.
type parking struct {
	waiting bool // bytes of the client are held
	asleep  bool // the client's pump waits in a read, with bytes in hand
	cancel  bool // the held unit is to be answered with 57014
}

// first is what goes to the client ahead of what its server says next.
type first struct {
	inject   []byte // messages that came while an owner had the server
	greeting []byte // ParameterStatus that has changed in a move
}

// clientPump is the session as its client's pump serves it: from the client to the server.
type clientPump struct{ *Session }

// serverPump is the session as its server's pump serves it: from the server to the client.
type serverPump struct{ *Session }

// work is what the server does for the session, for callers that ask about it or stop it.
type work struct{ *Session }

// View is the session for callers that only ask about it.
type View struct{ *Session }

// newRelay makes a session, which does not run.
func newRelay(ctx context.Context, p *Registry, who Identity, client net.Conn) *Session {
	r := &Session{Identity: who, p: p, client: client, in: poll.NewReader(client, nil)}
	r.ctx, r.End = context.WithCancelCause(ctx)
	r.up.Session, r.down.Session, r.View.Session, r.work.Session = r, r, r, r
	r.Owner.Session, r.Owner.turn = r, make(chan struct{}, 1)
	r.mu.changed = make(chan struct{})
	r.mu.attachment.r, r.mu.observed.r = r, r
	r.mu.tracker.Observer, r.mu.tracker.Follower = &r.mu.observed, &r.mu.observed.sniffer
	return r
}

// step tells waiters that something has changed. Called with mu locked.
func (r *Session) step() {
	close(r.mu.changed)
	r.mu.changed = make(chan struct{})
	if r.mu.parking.asleep {
		_ = r.client.SetReadDeadline(LongAgo)
	}
}

// attend keeps attention in line. Called with mu locked, after gate or wanted changed.
func (r *Session) attend() {
	r.mu.serving.kept = r.mu.serving.kept && r.mu.hold.gate
	r.attention.Store(r.mu.hold.gate || r.mu.hold.wanted || r.mu.hold.settling || r.mu.serving.reviving || r.mu.end.half)
	if r.attention.Load() {
		r.mu.attachment.handOver() // to those who can wait
	}
	r.step()
}

// await waits until ok, which is called with mu locked. Called with mu locked,
// returns with mu locked.
func (r *Session) await(ctx context.Context, ok func() bool) error {
	for !ok() {
		changed := r.mu.changed
		r.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		case <-r.ctx.Done():
			err = ending.ErrEnded
		}
		r.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// still reports that the session is at a boundary and that nothing is on its way
// to its server. Called with mu locked.
func (r *Session) still() bool {
	return r.mu.tracker.Boundary() && !r.toServer.Load() && r.mu.hold.cancels == 0 && !r.mu.serving.reviving
}

// reason says why the session is not still, "" when it is. Called with mu locked.
func (r *Session) reason() string {
	if why := r.mu.tracker.Reason(); why != "" {
		return why + r.parting()
	}
	switch {
	case r.toClient.Load():
		return "reply not taken by the client"
	case r.toServer.Load():
		return "request not taken by the server"
	case r.mu.hold.cancels > 0:
		return "cancel request on its way"
	case r.mu.serving.reviving:
		return "server being revived"
	}
	return ""
}

// Note is the session as reports show it.
func (r *Session) Note(code, detail string) Note {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.noted(code, detail)
}

// noted is note, called with mu locked.
func (r *Session) noted(code, detail string) Note {
	return Note{Session: r.Id, PID: r.pid, User: r.User, Database: r.Database, Client: r.client.RemoteAddr().String(), Code: code, Detail: detail,
		Application: r.mu.observed.params["application_name"], ServerPID: r.mu.server.pid.Load()}
}

// Hold has the gate hold the session, or lets it go.
func (r *Session) Hold(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.hold.gate != on {
		r.mu.hold.gate = on
		r.attend()
	}
}

// caller is the client, as either side needs it.
func (r *Session) caller() side.Caller {
	return side.Caller{User: r.User, Database: r.Database, Proof: r.Proof}
}

// CallersOf are the clients of sessions.
func CallersOf(list []*Session) []side.Caller {
	return lists.Map(list, func(r *Session) side.Caller { return r.caller() })
}

// Standstill waits until the session is parked. One that ends is at rest as well.
func (r *Session) Standstill(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.await(ctx, func() bool { return r.still() && !r.toClient.Load() })
	if errors.Is(err, ending.ErrEnded) {
		return nil
	}
	return err
}

// GoesOn waits until no bytes of the client are held any more.
func (r *Session) GoesOn(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.await(ctx, func() bool { return !r.mu.parking.waiting })
}

// Address is where the client connected from.
func (r *Session) Address() net.Addr { return r.client.RemoteAddr() }

// Ended reports that the session has ended, or is about to.
func (r *Session) Ended() bool { return r.ctx.Err() != nil }
