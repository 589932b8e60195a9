package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"crossfade/proxy/wire"
)

// run pumps until client or server is gone or somebody ends the session, says
// the last words and closes everything. It returns when nothing of the session is left.
func (r *relay) run() {
	stop := context.AfterFunc(r.ctx, r.interrupt)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.guard(r.pumpServer)
	}()
	r.guard(r.pumpClient)
	<-done
	stop()
	r.close()
}

// guard runs a pump and ends the session when it returns.
func (r *relay) guard(pump func() error) {
	defer r.p.recovered(r)
	err := pump()
	if err == nil {
		err = errEnded
	}
	r.end(err)
}

// interrupt gets both pumps out of their waits. A client that does not read has a
// little time to take what is on its way.
func (r *relay) interrupt() {
	_ = r.client.SetReadDeadline(longAgo)
	_ = r.client.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.mu.server.conn.SetDeadline(longAgo)
	r.step()
}

// close is called when both pumps have ended.
func (r *relay) close() {
	defer r.p.recovered(nil)
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
