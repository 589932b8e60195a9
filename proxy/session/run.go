package session

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"maps"
	"net"
	"slices"
	"time"

	"crossfade/internal/base/obs"
	"crossfade/proxy/backend"
	"crossfade/proxy/ending"
	"crossfade/proxy/poll"
	"crossfade/proxy/rewrite"
	"crossfade/proxy/side"
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// Begin starts the session: it is served until client or server is gone or someone ends it. Then it
// sends the last message and closes everything. over is called when nothing of the session is left.
func (r *Session) Begin(over func()) {
	r.over = over
	r.stopInterrupt = context.AfterFunc(r.ctx, r.interrupt)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.attachment.begun = true
	if !r.mu.attachment.attach() {
		r.mu.attachment.handOver()
	}
}

// guard runs a pump. The session ends with it, unless the engine has taken over; the
// last of the two closes it. running is guarded by mu.
func (r *Session) guard(pump func() error, running *bool) {
	if r.pumped(pump) {
		return
	}
	r.mu.Lock()
	st := &r.mu.attachment
	*running = false
	last := !st.clientPumps && !st.serverPumps && !st.over
	st.over = st.over || last
	r.mu.Unlock()
	if last {
		r.stopInterrupt()
		r.close()
		r.over()
	}
}

// pumped runs a pump and reports that it has left the session to the engine.
func (r *Session) pumped(pump func() error) (left bool) {
	defer r.p.Recovered(r)
	err := pump()
	if err == errToFast {
		return true
	}
	if err == nil {
		err = ending.ErrEnded
	}
	r.End(err)
	return false
}

// interrupt ends the waits of both pumps. A client that does not read has a little time to take
// what is on its way.
func (r *Session) interrupt() {
	r.Strike()
	_ = r.client.SetReadDeadline(LongAgo)
	_ = r.client.SetWriteDeadline(time.Now().Add(side.GoodbyeTimeout))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.attachment.handOver()
	_ = r.mu.server.conn.SetDeadline(LongAgo)
	r.step()
}

// close is called when both pumps have ended.
func (r *Session) close() {
	defer r.p.Recovered(nil)
	r.Strike()
	r.p.Leave(r)
	cause := context.Cause(r.ctx)
	r.mu.Lock()
	between := !r.mu.tracker.ServerPartial()
	r.mu.Unlock()
	if words := ending.LastWords(cause); words != nil && between {
		ending.Farewell(r.client, words)
	}
	_ = r.client.Close()
	// An owner that is at work sees the end of the session and gives up its turn.
	r.Owner.turn <- struct{}{}
	r.work.leaveNothingAtWork(cause)
	side.Terminate(r.mu.server.conn) // no other goroutine is left
	r.Owner.Discard()
	e := r.Log.Debug()
	if !errors.Is(cause, ending.ErrClientGone) {
		e = r.Log.Info()
	}
	e.AnErr("reason", cause).Msg("session ends")
}

// Lengths of a cancel key in bytes: what protocol 3.0 allows, and what 3.2 does.
const (
	shortKey = 4
	longKey  = 32
)

// ServedBy is the server that a session begins with.
type ServedBy struct {
	At    *side.Endpoint
	Name  string // role that the proxy logged in as
	Conn  *backend.Conn
	Types *typemap.Map // nil where its side numbers types as clients know them
	Moved bool         // sessions have been moved: numbers that clients know may be others' there
}

// New makes a session and enters it into the registry. It does not run before begin.
func New(ctx context.Context, p *Registry, who Identity, client net.Conn, by ServedBy) *Session {
	r := newRelay(ctx, p, who, client)
	r.mu.observed.params = maps.Clone(by.Conn.Params)
	r.mu.server = &server{conn: by.Conn, in: poll.NewReader(by.Conn.Conn, by.Conn.Leftover()), endpoint: by.At, login: by.Name}
	r.mu.server.pid.Store(int32(by.Conn.PID))
	if by.Moved {
		r.mu.server.filter = rewrite.Filter{PIDs: p.Pids.ClientPID, Backends: rewrite.NewBackends(p.Pids.BackendOf, nil)}
	}
	r.mu.server.translated(by.Types, nil)
	if by.Moved || by.Types != nil {
		r.mu.tracker.Filter = &r.mu.server.filter
	}
	r.Startup.Names(&r.mu.observed.sniffer.Names)
	if r.mu.observed.params["session_authorization"] == by.Name {
		r.mu.observed.params["session_authorization"] = r.User
	}
	p.enter(r, by.Conn.PID)
	r.Log = p.Log.With().Uint64(obs.KeySession, r.Id).Logger()
	r.Log.Debug().Str(obs.KeyUser, r.User).Str(obs.KeyDatabase, r.Database).Str(obs.KeyEndpoint, by.At.Name).Msg("session begins")
	return r
}

// Hello is what a server sends after AuthenticationOk.
func (r *Session) Hello() []byte {
	r.mu.Lock()
	params := maps.Clone(r.mu.observed.params)
	r.mu.Unlock()
	return hello(params, r.pid, r.Key)
}

func hello(params map[string]string, pid uint32, key []byte) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(params)) {
		b = wire.AppendParameterStatus(b, name, params[name])
	}
	return wire.AppendReadyForQuery(wire.AppendBackendKeyData(b, pid, key), 'I')
}

// NewKey makes a key for cancel requests, as long as the version of the protocol wants it.
func NewKey(version uint32) []byte {
	n := shortKey
	if version >= wire.Version32 {
		n = longKey
	}
	key := make([]byte, n)
	_, _ = rand.Read(key) // never fails
	return key
}

// Cancel does what a CancelRequest asks for. As in PostgreSQL, the requester does not learn whether
// it did anything. The request goes to the server that serves the session now; while an owner has
// that server it is dropped, so that it never hits a probe of ours, and no owner gets a server that
// a cancel is on its way to. A held unit, which no server has seen, is answered by the session
// itself. A session that rests where it is wanted has nothing to cancel: requests for it are dropped
// too, or those who send many would keep it from ever being taken.
func (p *Registry) Cancel(ctx context.Context, pid uint32, key []byte) {
	r := p.Find(pid)
	for _, s := range p.Streams() {
		if s.pid == pid && subtle.ConstantTimeCompare(s.Key, key) == 1 {
			_ = s.server.Cancel(ctx) // the requester gets no answer
			return
		}
	}
	// Compared in any case, so that the time tells nothing about pids.
	want := make([]byte, len(key))
	if r != nil {
		want = r.Key
	}
	if subtle.ConstantTimeCompare(want, key) != 1 || r == nil {
		return
	}
	r.mu.Lock()
	if r.mu.parking.waiting && r.mu.tracker.Boundary() {
		r.mu.parking.cancel = true
		r.step()
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
	r.work.cancelServer(ctx)
}

// cancelServer asks the session's server to cancel what it runs, unless an owner has that server.
func (r *work) cancelServer(ctx context.Context) {
	r.mu.Lock()
	rests := (r.mu.hold.gate || r.mu.hold.wanted) && r.mu.tracker.Boundary() && !r.toServer.Load()
	if r.mu.hold.pump != pumpRuns || r.mu.serving.reviving || rests {
		r.mu.Unlock()
		return
	}
	s := r.mu.server
	r.mu.hold.cancels++
	r.mu.Unlock()

	err := s.conn.Cancel(ctx)

	r.mu.Lock()
	r.mu.hold.cancels--
	r.step()
	r.mu.Unlock()
	if err != nil {
		r.Log.Warn().Err(err).Int32(obs.KeyPID, s.pid.Load()).Msg("cancel request not passed on")
	}
}
