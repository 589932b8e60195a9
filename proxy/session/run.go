package session

import (
	"context"
	"errors"
	"time"

	"crossfade/proxy/ending"
	"crossfade/proxy/side"
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
