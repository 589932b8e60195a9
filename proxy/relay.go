package proxy

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
	"crossfade/proxy/session"
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// relay is one session: a client, the server that serves it now, and between them
// the engine or two pumps.
//
// Locks, in the order in which they are taken: Proxy.mu, cw, mu. Nobody waits on a
// network under Proxy.mu or mu. turn is held across all of them, for the length of
// one operation.
type relay struct {
	p   *Proxy
	id  uint64
	log zerolog.Logger

	client   net.Conn
	in       *reader    // of the client; its pump's
	proof    auth.Proof // what the client proved itself by; in memory only
	user     string     // as the client knows them
	database string
	startup  session.Startup
	began    time.Time
	pid      uint32 // as the client knows it
	key      []byte

	// ctx ends when the session does, with the reason as its cause.
	ctx context.Context
	end context.CancelCauseFunc

	// cw is held over a write to the client, and over the observation of what is
	// written: whoever holds it knows whether the client stands between two frames.
	cw sync.Mutex

	orphan        bool   // its server was asked to cancel what nobody waits for; the client's pump's, then close's
	over          func() // called when nothing of the session is left
	stopInterrupt func() bool

	// Set while a pump has bytes that are observed and not written yet.
	toServer, toClient atomic.Bool
	// attention says that somebody waits for this session to stop, so that the
	// pumps must tell of every step. It mirrors gate, wanted, settling, reviving and half.
	attention atomic.Bool

	mu struct {
		sync.Mutex
		tracker wire.Tracker
		sniffer session.Sniffer
		server  *server
		changed chan struct{} // closed and replaced at every step, while attention is set

		gate     bool // the gate holds the session
		wanted   bool // an owner wants the server, or has it
		stop     bool // the server's pump is to stop, or has stopped
		stopped  bool // it has
		cancels  int  // cancel requests on their way to the server
		settling bool // the side check has the client stopped
		reviving bool // the server is gone, and another one is being made
		half     bool // the client sends no more, and has answers to come
		dead     bool // nobody is at the client's end: what the server says is dropped
		kept     bool // it goes on by what was captured of it, whatever becomes of its server
		lacks    bool // it does: its server is gone
		waiting  bool // bytes of the client are held
		asleep   bool // the client's pump waits in a read, with bytes in hand
		cancel   bool // the held unit is to be answered with 57014
		seat     seat // in the engine
		inject   []byte
		greeting []byte // ParameterStatus for the client, ahead of its next message

		params      map[string]string // ParameterStatus as the client has seen it
		unnamed     []byte            // body of the Parse of the unnamed statement
		hasUnnamed  bool
		lostUnnamed bool
		inserted    bool // the last command but for COMMIT and the like was an INSERT

		judged judged // by the last capture
		seen   seen
	}

	// turn is held by the session's owner of the moment: it guards what follows.
	turn     chan struct{}
	captured *session.State
	frames   uint64                          // client frames at that capture
	names    []string                        // custom settings that it looked at
	surveyed map[surveyKey]session.Statement // prepared statements that its server was asked about
	warm     *warm
}

// server is a server connection that serves a session.
type server struct {
	conn     *backend.Conn
	in       *reader
	endpoint *Endpoint
	login    string           // role that the proxy logged in as
	pid      atomic.Int32     // pg_backend_pid() once it was captured, before that the pid of its key data
	rewrite  *rewriter        // nil where pids need no translation
	types    *typemap.Session // nil where numbers of types need none
	typeMap  *typemap.Map     // of types
	numbers  *backendNumbers  // nil where those of backends need no translation
	late     *late            // statements that the client has and this server does not; nil for none
}

// step tells whoever waits for a change. Called with mu locked.
func (r *relay) step() {
	close(r.mu.changed)
	r.mu.changed = make(chan struct{})
	if r.mu.asleep {
		_ = r.client.SetReadDeadline(longAgo)
	}
}

// attend keeps attention in line. Called with mu locked, after gate or wanted changed.
func (r *relay) attend() {
	r.mu.kept = r.mu.kept && r.mu.gate
	r.attention.Store(r.mu.gate || r.mu.wanted || r.mu.settling || r.mu.reviving || r.mu.half)
	if r.attention.Load() {
		r.handOver() // to those who can wait
	}
	r.step()
}

// await waits until ok, which is called with mu locked. Called with mu locked,
// returns with mu locked.
func (r *relay) await(ctx context.Context, ok func() bool) error {
	for !ok() {
		changed := r.mu.changed
		r.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		case <-r.ctx.Done():
			err = errEnded
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
func (r *relay) still() bool {
	return r.mu.tracker.Boundary() && !r.toServer.Load() && r.mu.cancels == 0 && !r.mu.reviving
}

// reason says why the session is not still, "" when it is. Called with mu locked.
func (r *relay) reason() string {
	if why := r.mu.tracker.Reason(); why != "" {
		return why + r.parting()
	}
	switch {
	case r.toClient.Load():
		return "reply not taken by the client"
	case r.toServer.Load():
		return "request not taken by the server"
	case r.mu.cancels > 0:
		return "cancel request on its way"
	case r.mu.reviving:
		return "server being revived"
	}
	return ""
}

// note is the session as reports show it.
func (r *relay) note(code, detail string) SessionNote {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.noted(code, detail)
}

// noted is note, called with mu locked.
func (r *relay) noted(code, detail string) SessionNote {
	return SessionNote{Session: r.id, PID: r.pid, User: r.user, Database: r.database, Client: r.client.RemoteAddr().String(), Code: code, Detail: detail,
		Application: r.mu.params["application_name"], ServerPID: r.mu.server.pid.Load()}
}

// hold has the gate hold the session, or lets it go.
func (r *relay) hold(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.gate != on {
		r.mu.gate = on
		r.attend()
	}
}
