package session

import (
	"bytes"
	"time"

	"crossfade/internal/base/retry"
	"crossfade/proxy/ending"
	"crossfade/proxy/poll"
	"crossfade/proxy/side"
	"crossfade/proxy/wire"
)

// LongAgo as a deadline ends what waits on a connection.
var LongAgo = time.Unix(1, 0)

// noDeadline lets it wait.
var noDeadline time.Time

// pumpClient forwards what the client sends until one of the two is gone.
func (r *clientPump) pumpClient() error {
	if err := r.restToServer(); err != nil {
		return err
	}
	for {
		p, err := r.in.Read()
		if len(p) > 0 {
			if err := r.forward(p); err != nil {
				return err
			}
		}
		r.in.Release()
		if err != nil && (!poll.TimedOut(err) || r.ctx.Err() != nil) {
			return r.seeOut(err)
		}
		// It may have been woken for a park that is over, to leave, or because the client does not
		// read.
		r.mu.Lock()
		r.awake()
		dead := r.mu.end.dead
		left := !dead && r.mu.attachment.clientLeaves()
		r.mu.Unlock()
		if dead {
			return r.seeOut(ending.ErrClientGone)
		}
		if left {
			return errToFast
		}
	}
}

// restToServer writes what the engine could not.
func (r *clientPump) restToServer() error {
	r.mu.Lock()
	st, s := &r.mu.attachment, r.mu.server
	rest, held := st.toServerRest, st.toServerHeld
	st.toServerRest, st.toServerHeld = nil, false
	r.mu.Unlock()
	if !held {
		return nil
	}
	return r.push(s, rest)
}

// push writes what was observed to the server.
func (r *clientPump) push(s *server, p []byte) error {
	err := s.in.Push(p)
	r.toServer.Store(false)
	r.progress()
	if err != nil {
		return r.serverLeft()
	}
	return nil
}

// forward sends p to the server: unchanged or, while something wants the session to stop, unit by
// unit to the next boundary, where it waits.
func (r *clientPump) forward(p []byte) error {
	for len(p) > 0 {
		n, out, s, err := r.send(p)
		switch {
		case err != nil:
			return err
		case n == 0:
			if p, err = r.park(p); err != nil {
				return err
			}
			continue
		}
		if err := r.push(s, out); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// send observes what may go of p: n bytes, for which the caller must write out to
// the server that it returns.
func (r *clientPump) send(p []byte) (n int, out []byte, s *server, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n = r.allowed(p); n == 0 {
		return 0, nil, nil, nil
	}
	s = r.mu.server
	if out, err = r.fromClient(p[:n]); err != nil {
		return 0, nil, nil, err
	}
	r.toServer.Store(true)
	return n, out, s, nil
}

// fromClient observes p and makes of it what the server is to get: every byte of a
// client passes here once. Called with mu locked.
func (r *Session) fromClient(p []byte) ([]byte, error) {
	if r.mu.observed.sniffer.Contexts.Dirty() && r.mu.tracker.Boundary() {
		r.mu.observed.sniffer.Contexts.Settle()
	}
	return r.mu.tracker.Client(p)
}

// allowed returns how much of p may go now. Called with mu locked.
func (r *clientPump) allowed(p []byte) int {
	if r.mu.hold.settling || r.mu.serving.reviving {
		return 0
	}
	if r.mu.hold.gate || r.mu.hold.wanted {
		return max(r.mu.tracker.ClientLimit(p), r.finishing(p))
	}
	return len(p)
}

// progress tells waiters that a pump has made a step.
func (r *Session) progress() {
	if r.attention.Load() {
		r.mu.Lock()
		r.step()
		r.mu.Unlock()
	}
}

// serverLeft waits for the server's pump to deliver the server's last message, after a write to the
// server failed.
func (r *clientPump) serverLeft() error {
	_ = retry.Sleep(r.ctx, side.GoodbyeTimeout)
	return ending.ErrServerGone
}

// pumpServer forwards what the server sends, across changes of the server.
func (r *serverPump) pumpServer() error {
	told, code := false, "" // the server has said why it closes
	if err := r.restToClient(); err != nil {
		return err
	}
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
		p, err := s.in.Read()
		if fatal := saysFatal(p); fatal || gone(err) && !told {
			left, alive, err := r.tryRevive(s, p)
			if err != nil {
				return err
			}
			if alive {
				continue
			}
			p = left
		}
		if len(p) > 0 && r.dyingWords(s, p) {
			p = nil
		}
		if len(p) > 0 {
			if told = saysFatal(p); told {
				_, code, _ = lastFrames(p)
			}
			if err := r.deliver(s, p); err != nil {
				return err
			}
		}
		s.in.Release()
		switch {
		case err == nil || poll.TimedOut(err) && r.ctx.Err() == nil:
		case r.left():
			return ending.ErrClientGone
		case told:
			return &ending.ToldError{Code: code}
		default:
			return ending.ErrServerGone
		}
	}
}

// left reports that the client has said good-bye.
func (r *serverPump) left() bool {
	return r.mu.locked(func() bool { return r.mu.tracker.Reason() == wire.ReasonTerminated })
}

// serverTurn waits while an owner has the server, and returns the server to read
// from or bytes to be delivered first.
func (r *serverPump) serverTurn() (*server, []byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.mu.hold.pump != pumpRuns {
		if r.mu.hold.pump == pumpStopping {
			r.mu.hold.pump = pumpStopped
			r.step()
		}
		if err := r.await(r.ctx, func() bool { return r.mu.hold.pump != pumpStopped }); err != nil {
			return nil, nil, err
		}
	}
	if r.mu.attachment.serverLeaves() {
		return nil, nil, errToFast
	}
	inject := r.mu.first.inject
	r.mu.first.inject = nil
	return r.mu.server, inject, nil
}

// restToClient writes what the engine could not.
func (r *serverPump) restToClient() error {
	r.cw.Lock()
	defer r.cw.Unlock()
	r.mu.Lock()
	st := &r.mu.attachment
	rest, held := st.toClientRest, st.toClientHeld
	st.toClientRest, st.toClientHeld = nil, false
	r.mu.Unlock()
	if !held {
		return nil
	}
	err := r.in.Push(rest)
	r.toClient.Store(false)
	r.progress()
	if err != nil && !r.outlives() {
		return ending.ErrClientGone
	}
	return nil
}

// deliver writes bytes of the server to the client. s is nil for bytes whose pids
// are translated already.
func (r *serverPump) deliver(s *server, p []byte) error {
	r.cw.Lock()
	defer r.cw.Unlock()
	p, greeting, err := r.receive(s, p)
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
		return r.broken(err)
	case gone && !r.outlives():
		return ending.ErrClientGone
	}
	return nil
}

// receive observes p and returns what the caller must write to the client, after greeting.
func (r *serverPump) receive(s *server, p []byte) (out, greeting []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.serving.taken += uint64(len(p))
	if out, err = r.fromServer(s, p); err != nil {
		return nil, nil, err
	}
	greeting = r.mu.first.greeting
	r.mu.first.greeting = nil
	if r.mu.end.dead {
		out, greeting = nil, nil
	}
	r.toClient.Store(true)
	if st := &r.mu.attachment; st.leaving && !st.clientPumps {
		r.mu.attachment.handOver() // the write may wait, and someone must read the client
	}
	r.mu.attachment.offer()
	return out, greeting, nil
}

// fromServer makes what the client is to see of p, and observes it: every byte of a
// server passes here once. Called with cw and mu locked.
func (r *Session) fromServer(s *server, p []byte) ([]byte, error) {
	if s == nil {
		return r.mu.tracker.Inject(p)
	}
	return r.mu.tracker.Server(p)
}

// broken is the end of a session whose server does not speak the protocol.
func (r *Session) broken(err error) error {
	r.Log.Warn().Err(err).Msg("server broke the protocol")
	return ending.ErrServerGone
}

// maxWords is how many bytes at the end of a read are searched for a server's last message. It is
// one line.
const maxWords = 1 << 10

// saysFatal reports that p ends with an ErrorResponse that ends the connection. It may be wrong:
// then the client gets one message too many, or none of ours.
func saysFatal(p []byte) bool {
	if !bytes.HasSuffix(p, []byte{0, 0}) {
		return false
	}
	p = p[max(0, len(p)-maxWords):]
	return bytes.Contains(p, []byte("FATAL\x00")) || bytes.Contains(p, []byte("PANIC\x00"))
}
