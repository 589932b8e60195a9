package session

import (
	"errors"

	"crossfade/proxy/poll"
)

// The engine serves sessions without a goroutine for each, in plaintext and under TLS. It is the
// fast path only: one read that does not wait, the tracker, one write that does not wait, all under
// the session's mutex. Anything else (a write that would block, the end of a connection, a server's
// last message before it ends, a caller that wants the session) hands the session over to its
// pumps, which are the reference implementation. The pumps give the session back when nothing of
// that kind is left. See docs/design/proxy-speed.md.

// calmBursts is how many answers the pumps deliver at a boundary before they give the session back
// to the engine: each hand-over costs two goroutines.
const calmBursts = 4

var errToFast = errors.New("session continues in the engine")

// attachment is what a session keeps for the engine. It is guarded by Session.mu.
type attachment struct {
	r *Session

	key    uint64 // the key by which the engine knows the session; 0 while the pumps have it
	client int    // file descriptors; they stay open while key is not 0
	server int

	begun, over bool
	clientPumps bool // which of the pumps' goroutines exist
	serverPumps bool
	leaving     bool // the pumps are to end, the engine takes over
	calm        int  // answers delivered at a boundary since the pumps took over
	// Bytes that were observed and not written: the pumps write them before anything else. Under
	// TLS the connection below holds some or all of them.
	toServerRest, toClientRest []byte
	toServerHeld, toClientHeld bool
}

// attach gives the session to the engine, unless something keeps it with the pumps. Called with mu
// locked, while there are no pumps.
func (st *attachment) attach() bool {
	r := st.r
	s := r.mu.server
	if st.over || st.key != 0 || r.attention.Load() || r.ctx.Err() != nil {
		return false
	}
	if len(r.mu.first.inject) > 0 || len(r.mu.first.greeting) > 0 || r.mu.hold.pump != pumpRuns || !r.in.Ready() || !s.in.Ready() {
		return false
	}
	client, ok := r.in.Descriptor()
	server, ok2 := s.in.Descriptor()
	if !ok || !ok2 {
		return false
	}
	st.client, st.server = client, server
	if st.key = r.p.Engine.Add(st, client, server); st.key == 0 {
		return false
	}
	st.leaving, st.calm = false, 0
	return true
}

// handOver gives the session to its pumps, if they do not have it. When it returns, the
// engine does not touch the session any more. Called with mu locked.
func (st *attachment) handOver() {
	r := st.r
	if !st.begun || st.over {
		return
	}
	st.calm = 0
	if st.key != 0 {
		r.p.Engine.Remove(st.key, st.client, st.server)
		st.key = 0
	}
	if st.leaving {
		st.leaving = false
		st.listen()
		if r.mu.hold.pump == pumpRuns {
			r.readOn(r.mu.server)
		}
	}
	if !st.clientPumps {
		st.clientPumps = true
		go r.guard(r.up.pumpClient, &st.clientPumps)
	}
	if !st.serverPumps {
		st.serverPumps = true
		go r.guard(r.down.pumpServer, &st.serverPumps)
	}
}

// offer asks the pumps to give the session to the engine, once it has been calm for long enough.
// Called with mu locked, by the server's pump.
func (st *attachment) offer() {
	r := st.r
	if st.leaving || r.attention.Load() || !r.mu.tracker.Boundary() || !r.p.Engine.Runs() ||
		!r.in.Fast() || !r.mu.server.in.Fast() {
		return
	}
	if st.calm++; st.calm < calmBursts {
		return
	}
	st.leaving = true
	_ = r.client.SetReadDeadline(LongAgo)
}

// clientLeaves ends the client's pump if the session goes to the engine. The server's pump ends
// next: until it has, nothing reads the client, so it must not be in a write. Called with mu
// locked, by the client's pump, which holds no bytes.
func (st *attachment) clientLeaves() bool {
	r := st.r
	if !st.leaving || r.ctx.Err() != nil {
		return false
	}
	st.listen()
	if r.toClient.Load() {
		st.leaving, st.calm = false, 0 // not calm: the client does not read
		return false
	}
	st.clientPumps = false
	_ = r.mu.server.conn.SetReadDeadline(LongAgo)
	return true
}

// serverLeaves ends the server's pump after the client's. If the engine cannot take the session
// after all, both pumps are started again. Called with mu locked, by the server's pump, which holds
// no bytes.
func (st *attachment) serverLeaves() bool {
	r := st.r
	if !st.leaving || st.clientPumps {
		return false
	}
	r.readOn(r.mu.server)
	st.serverPumps = false
	if st.attach() {
		return true
	}
	st.serverPumps = true
	st.handOver()
	return false
}

// listen removes the deadline that interrupted the client's pump. Called with mu locked.
func (st *attachment) listen() {
	r := st.r
	_ = r.client.SetReadDeadline(noDeadline)
	if r.ctx.Err() != nil { // the end of the session may have set its deadline just before
		_ = r.client.SetReadDeadline(LongAgo)
	}
}

// Turn handles one event of one of the session's two sockets. Called by the engine.
func (st *attachment) Turn(key uint64, ofServer, ended bool) {
	r := st.r
	defer r.p.Recovered(r)
	pumped := ofServer && !r.cw.TryLock()
	if ofServer && !pumped {
		defer r.cw.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if st.key != key {
		return // handed over after the event
	}
	in, socket, step := r.in, st.client, st.clientStep
	if ofServer {
		in, socket, step = r.mu.server.in, st.server, st.serverStep
	}
	for more := !pumped; more && st.key == key; {
		more = step()
	}
	if st.key == key && (pumped || ended || !in.Drained()) {
		r.p.Engine.Again(key, socket, ofServer)
	}
}

// clientStep is one turn of pumpClient. It reports whether there may be more bytes that no event of
// the socket announces. Called with mu locked, while the engine has the session.
func (st *attachment) clientStep() bool {
	r, s := st.r, st.r.mu.server
	p, err := r.in.Now(st.client)
	defer r.in.Release()
	if !r.in.Answered() {
		st.toClientHeld = true
		st.handOver()
	}
	switch {
	case err == poll.ErrWouldBlock:
		return false
	case err != nil:
		st.handOver() // its pump will get the same error
		return false
	}
	if p, err = r.fromClient(p); err != nil {
		r.End(err)
		st.handOver()
		return false
	}
	if rest, all := s.in.Write(st.server, p); !all {
		st.toServerRest, st.toServerHeld = rest, true
		r.toServer.Store(true)
		st.handOver()
	}
	return r.in.Again()
}

// serverStep is one turn of pumpServer, as clientStep is one of pumpClient. Called with cw and
// mu locked, while the engine has the session.
func (st *attachment) serverStep() bool {
	r, s := st.r, st.r.mu.server
	p, err := s.in.Now(st.server)
	defer s.in.Release()
	if !s.in.Answered() {
		st.toServerHeld = true
		st.handOver()
	}
	switch {
	case err == poll.ErrWouldBlock:
		return false
	case err != nil:
		st.handOver()
		return false
	case saysFatal(p):
		s.in.Unread(append([]byte(nil), p...)) // the server's pump decides what to do with a last message
		st.handOver()
		return false
	}
	if p, err = r.fromServer(s, p); err != nil {
		r.End(r.broken(err))
		st.handOver()
		return false
	}
	if rest, all := r.in.Write(st.client, p); !all {
		st.toClientRest, st.toClientHeld = rest, true
		r.toClient.Store(true)
		st.handOver()
	}
	return s.in.Again()
}
