package proxy

import (
	"errors"
	"syscall"
)

// The engine serves plaintext sessions without a goroutine of their own. It is the
// fast path and nothing else: one read that does not wait, the tracker, one write
// that does not wait, all of it under the session's mutex. Whatever is more than
// that (a write that would block, the end of a connection, a server's last words,
// somebody who wants the session) hands the session over to its pumps, which are the
// reference; they give it back when it is calm again. See docs/design/proxy-speed.md.

// calmBursts is how many answers the pumps deliver at a boundary before they give a
// session back: one that is handed over again and again pays for two goroutines each time.
const calmBursts = 4

var (
	errAgain  = errors.New("nothing to read")
	errToFast = errors.New("session goes on in the engine")
)

// seat is the place of a session in an engine. It is guarded by relay.mu.
type seat struct {
	engine *engine
	key    uint64 // what the engine knows the session by; 0 while the pumps have it
	client int    // file descriptors; they stay open while key is not 0
	server int

	begun, over  bool
	clientPumps  bool // the goroutines that there are
	serverPumps  bool
	leaving      bool // the pumps are to end, the engine takes over
	calm         int  // answers delivered at a boundary since the engine gave up
	toServerRest []byte
	toClientRest []byte // observed, and not written: first of all what the pumps write
}

// sit gives the session to the engine, where it may be there. Called with mu locked,
// while there are no pumps.
func (r *relay) sit() bool {
	st := &r.mu.seat
	e, s := r.p.engines.pick(r.id), r.mu.server
	if e == nil || st.over || st.key != 0 || r.attention.Load() || r.ctx.Err() != nil {
		return false
	}
	if len(r.mu.inject) > 0 || len(r.mu.greeting) > 0 || r.mu.stop || !r.in.ready() || !s.in.ready() {
		return false
	}
	client, ok := descriptor(r.in.raw)
	server, ok2 := descriptor(s.in.raw)
	if !ok || !ok2 {
		return false
	}
	st.client, st.server = client, server
	key := e.add(r, client, server)
	if key == 0 {
		return false
	}
	st.engine, st.key, st.leaving, st.calm = e, key, false, 0
	return true
}

// handOver gives the session to its pumps, if they do not have it. When it returns, the
// engine does not touch the session any more. Called with mu locked.
func (r *relay) handOver() {
	st := &r.mu.seat
	if !st.begun || st.over {
		return
	}
	st.calm = 0
	if st.key != 0 {
		st.engine.remove(st.key, st.client, st.server)
		st.key = 0
	}
	if st.leaving {
		st.leaving = false
		r.listen()
		if !r.mu.stop {
			r.readOn(r.mu.server)
		}
	}
	if !st.clientPumps {
		st.clientPumps = true
		go r.guard(r.pumpClient, &st.clientPumps)
	}
	if !st.serverPumps {
		st.serverPumps = true
		go r.guard(r.pumpServer, &st.serverPumps)
	}
}

// offer has the pumps give the session to the engine, if it has been calm for long
// enough. Called with mu locked, by the server's pump.
func (r *relay) offer() {
	st := &r.mu.seat
	if st.leaving || r.attention.Load() || !r.mu.tracker.Boundary() || !r.p.engines.any() ||
		r.in.raw == nil || r.mu.server.in.raw == nil {
		return
	}
	if st.calm++; st.calm < calmBursts {
		return
	}
	st.leaving = true
	_ = r.client.SetReadDeadline(longAgo)
}

// clientLeaves ends the client's pump if the session goes to the engine. The server's
// pump follows: until it has, nobody reads the client, so it must not be in a write.
// Called with mu locked, by the client's pump, which has nothing in hand.
func (r *relay) clientLeaves() bool {
	st := &r.mu.seat
	if !st.leaving || r.ctx.Err() != nil {
		return false
	}
	r.listen()
	if r.toClient.Load() {
		st.leaving, st.calm = false, 0 // not calm: the client does not read
		return false
	}
	st.clientPumps = false
	_ = r.mu.server.conn.SetReadDeadline(longAgo)
	return true
}

// serverLeaves ends the server's pump behind the client's. Where the engine cannot have
// the session after all, there are two pumps again. Called with mu locked, by the
// server's pump, which has nothing in hand.
func (r *relay) serverLeaves() bool {
	st := &r.mu.seat
	if !st.leaving || st.clientPumps {
		return false
	}
	r.readOn(r.mu.server)
	st.serverPumps = false
	if r.sit() {
		return true
	}
	st.serverPumps = true
	r.handOver()
	return false
}

// listen ends the interruption of the client's pump. Called with mu locked.
func (r *relay) listen() {
	_ = r.client.SetReadDeadline(noDeadline)
	if r.ctx.Err() != nil { // its interruption may have come just before
		_ = r.client.SetReadDeadline(longAgo)
	}
}

// turnOf handles one event of one of the session's two sockets. Called by the engine.
func (r *relay) turnOf(key uint64, ofServer bool) {
	defer r.p.recovered(r)
	if ofServer {
		r.serverTurnNow(key)
		return
	}
	r.clientTurnNow(key)
}

// clientTurnNow is one turn of pumpClient.
func (r *relay) clientTurnNow(key uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := &r.mu.seat
	if st.key != key {
		return // handed over since the event
	}
	p, err := r.in.now(st.client)
	defer r.in.release()
	switch {
	case err == errAgain:
		return
	case err != nil:
		r.handOver() // its pump meets the same
		return
	}
	if p, err = r.fromClient(r.mu.server, p); err != nil {
		r.end(err)
		r.handOver()
		return
	}
	n, err := writeNow(st.server, p)
	if n < len(p) || err != nil {
		st.toServerRest = append([]byte(nil), p[n:]...)
		r.toServer.Store(true)
		r.handOver()
	}
}

// serverTurnNow is one turn of pumpServer.
func (r *relay) serverTurnNow(key uint64) {
	if !r.cw.TryLock() {
		return // a pump has it: handed over since the event
	}
	defer r.cw.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	st, s := &r.mu.seat, r.mu.server
	if st.key != key {
		return
	}
	p, err := s.in.now(st.server)
	defer s.in.release()
	switch {
	case err == errAgain:
		return
	case err != nil:
		r.handOver()
		return
	case saysFatal(p):
		s.in.pre = append([]byte(nil), p...) // what its pump does with last words is its matter
		r.handOver()
		return
	}
	if p, err = r.fromServer(s, p); err != nil {
		r.end(r.broken(err))
		r.handOver()
		return
	}
	n, err := writeNow(st.client, p)
	if n < len(p) || err != nil {
		st.toClientRest = append([]byte(nil), p[n:]...)
		r.toClient.Store(true)
		r.handOver()
	}
}

// descriptor returns the file descriptor of a connection.
func descriptor(raw syscall.RawConn) (fd int, ok bool) {
	if raw == nil {
		return 0, false
	}
	err := raw.Control(func(f uintptr) { fd = int(f) })
	return fd, err == nil
}
