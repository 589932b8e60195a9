package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"crossfade/proxy/wire"
)

// begin lets the session go: it is served until client or server is gone or somebody
// ends it. Then it says the last words and closes everything. over is called when
// nothing of the session is left.
func (r *relay) begin(over func()) {
	r.over = over
	r.stopInterrupt = context.AfterFunc(r.ctx, r.interrupt)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.seat.begun = true
	if !r.sit() {
		r.handOver()
	}
}

// guard runs a pump. The session ends with it, unless the engine has taken over; the
// last of the two closes it. running is guarded by mu.
func (r *relay) guard(pump func() error, running *bool) {
	if r.pumped(pump) {
		return
	}
	r.mu.Lock()
	st := &r.mu.seat
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
func (r *relay) pumped(pump func() error) (left bool) {
	defer r.p.recovered(r)
	err := pump()
	if err == errToFast {
		return true
	}
	if err == nil {
		err = errEnded
	}
	r.end(err)
	return false
}

// interrupt gets both pumps out of their waits. A client that does not read has a
// little time to take what is on its way.
func (r *relay) interrupt() {
	r.strike()
	_ = r.client.SetReadDeadline(longAgo)
	_ = r.client.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handOver()
	_ = r.mu.server.conn.SetDeadline(longAgo)
	r.step()
}

// close is called when both pumps have ended.
func (r *relay) close() {
	defer r.p.recovered(nil)
	r.strike()
	r.p.leave(r)
	cause := context.Cause(r.ctx)
	r.mu.Lock()
	between := !r.mu.tracker.ServerPartial()
	r.mu.Unlock()
	if words := lastWords(cause); words != nil && between {
		farewell(r.client, words)
	}
	_ = r.client.Close()
	// An owner that is at work sees the end of the session and gives up its turn.
	r.turn <- struct{}{}
	r.leaveNothingAtWork(cause)
	terminate(r.mu.server.conn) // nobody else is left
	if r.warm != nil {
		r.warm.close()
	}
	e := r.log.Debug()
	if !errors.Is(cause, errClientGone) {
		e = r.log.Info()
	}
	e.AnErr("reason", cause).Msg("session ends")
}

// farewell says why the connection is closed, and waits a moment for the client to
// close it: bytes of the client that nobody has read would reset the connection,
// and with it destroy the words.
func farewell(client net.Conn, words *wire.ServerError) {
	_ = client.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	if _, err := client.Write(wire.AppendError(nil, words)); err != nil {
		return
	}
	if c, ok := client.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	_ = client.SetReadDeadline(time.Now().Add(lingerTimeout))
	_, _ = io.CopyN(io.Discard, client, maxLinger)
}
