package session

import (
	"context"
	"crypto/subtle"

	"crossfade/internal/base/obs"
)

// Cancel does what a CancelRequest asks for. As in PostgreSQL, the requester does not learn whether
// it did anything. The request goes to the server that serves the session now; while an owner has
// that server it is dropped, so that it never hits a probe of ours, and no owner gets a server that
// a cancel is on its way to. A held unit, which no server has seen, is answered by the session
// itself.
func (p *Registry) Cancel(ctx context.Context, pid uint32, key []byte) {
	r := p.Find(pid)
	for _, s := range p.Streams() {
		if s.pid == pid && subtle.ConstantTimeCompare(s.key, key) == 1 {
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
	if r.mu.hold.pump != pumpRuns || r.mu.serving.reviving {
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
