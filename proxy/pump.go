package proxy

import (
	"bytes"
	"time"

	"crossfade/proxy/wire"
)

// longAgo as a deadline ends what waits on a connection.
var longAgo = time.Unix(1, 0)

// pumpClient forwards what the client sends until one of the two is gone.
func (r *relay) pumpClient() error {
	for {
		p, err := r.in.read()
		if len(p) > 0 {
			if err := r.forward(p); err != nil {
				return err
			}
		}
		r.in.release()
		if err == nil {
			continue
		}
		if !timedOut(err) || r.ctx.Err() != nil {
			return errClientGone
		}
		// Woken for a park that is over.
		r.mu.Lock()
		r.awake()
		r.mu.Unlock()
	}
}

// forward sends p to the server: as it is, or while somebody wants the session to
// stop, unit by unit to the next boundary, where it waits.
func (r *relay) forward(p []byte) error {
	for len(p) > 0 {
		n, s, err := r.send(p)
		switch {
		case err != nil:
			return err
		case n == 0:
			if p, err = r.park(p); err != nil {
				return err
			}
			continue
		}
		out := p[:n]
		if s.types != nil {
			out = s.types.Client(out)
		}
		_, err = s.conn.Write(out)
		r.toServer.Store(false)
		r.progress()
		if err != nil {
			return r.serverLeft()
		}
		p = p[n:]
	}
	return nil
}

// send observes what may go of p: n bytes, which the caller must write to the
// server that it returns.
func (r *relay) send(p []byte) (n int, s *server, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n = r.allowed(p); n == 0 {
		return 0, nil, nil
	}
	if err := r.mu.tracker.Client(p[:n]); err != nil {
		return 0, nil, err
	}
	r.mu.sniffer.Client(p[:n])
	r.toServer.Store(true)
	return n, r.mu.server, nil
}

// allowed returns how much of p may go now. Called with mu locked.
func (r *relay) allowed(p []byte) int {
	if r.mu.settling || r.mu.reviving {
		return 0
	}
	if r.mu.gate || r.mu.wanted {
		return r.mu.tracker.ClientLimit(p)
	}
	return len(p)
}

// progress tells whoever waits that a pump has made a step.
func (r *relay) progress() {
	if r.attention.Load() {
		r.mu.Lock()
		r.step()
		r.mu.Unlock()
	}
}

// serverLeft waits for the server's pump to bring its last words, after a write
// to it was refused.
func (r *relay) serverLeft() error {
	t := time.NewTimer(goodbyeTimeout)
	defer t.Stop()
	select {
	case <-r.ctx.Done():
	case <-t.C:
	}
	return errServerGone
}

// pumpServer forwards what the server sends, across changes of the server.
func (r *relay) pumpServer() error {
	told := false // the server has said why it closes
	for {
		s, inject, err := r.serverTurn()
		if err != nil {
			return err
		}
		if len(inject) > 0 {
			if err := r.deliver(nil, inject); err != nil {
				return err
			}
			continue
		}
		p, err := s.in.read()
		if fatal := saysFatal(p); fatal || gone(err) && !told {
			left, alive, err := r.survive(s, p)
			if err != nil {
				return err
			}
			if alive {
				continue
			}
			p = left
		}
		if len(p) > 0 {
			told = saysFatal(p)
			if err := r.deliver(s, p); err != nil {
				return err
			}
		}
		s.in.release()
		switch {
		case err == nil || timedOut(err) && r.ctx.Err() == nil:
		case told || r.left():
			return errClientGone // nothing is left to be said
		default:
			return errServerGone
		}
	}
}

// left reports that the client has said good-bye.
func (r *relay) left() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.tracker.Reason() == wire.ReasonTerminated
}

// serverTurn waits while an owner has the server, and returns the server to read
// from or bytes to be delivered first.
func (r *relay) serverTurn() (*server, []byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.mu.stop {
		if !r.mu.stopped {
			r.mu.stopped = true
			r.step()
		}
		if err := r.await(r.ctx, func() bool { return !r.mu.stop }); err != nil {
			return nil, nil, err
		}
	}
	r.mu.stopped = false
	inject := r.mu.inject
	r.mu.inject = nil
	return r.mu.server, inject, nil
}

// deliver writes bytes of the server to the client. s is nil for bytes whose pids
// are translated already.
func (r *relay) deliver(s *server, p []byte) error {
	r.cw.Lock()
	defer r.cw.Unlock()
	if s != nil && s.rewrite != nil {
		n := s.rewrite.pids(p)
		s.in.keep(p[n:])
		p = p[:n]
	}
	if s != nil && s.types != nil {
		p = s.types.Server(p)
	}
	greeting, err := r.receive(p)
	gone := false
	for _, b := range [][]byte{greeting, p} {
		if err == nil && !gone && len(b) > 0 {
			_, werr := r.client.Write(b)
			gone = werr != nil
		}
	}
	r.toClient.Store(false)
	r.progress()
	switch {
	case err != nil:
		r.log.Warn().Err(err).Msg("server broke the protocol")
		return errServerGone
	case gone:
		return errClientGone
	}
	return nil
}

// receive observes p, which the caller must write to the client, behind greeting.
func (r *relay) receive(p []byte) (greeting []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.mu.tracker.Server(p); err != nil {
		return nil, err
	}
	greeting = r.mu.greeting
	r.mu.greeting = nil
	r.toClient.Store(true)
	return greeting, nil
}

// maxWords is how much of the end of a read is searched for a server's last words,
// in bytes. They are one line.
const maxWords = 1 << 10

// saysFatal reports that p ends with an ErrorResponse that ends the connection. It
// may err: then the client is told once more, or not told by us.
func saysFatal(p []byte) bool {
	if !bytes.HasSuffix(p, []byte{0, 0}) {
		return false
	}
	p = p[max(0, len(p)-maxWords):]
	return bytes.Contains(p, []byte("FATAL\x00")) || bytes.Contains(p, []byte("PANIC\x00"))
}
