package proxy

import (
	"context"

	"crossfade/internal/obs"
)

// From the end of Restage on a parked session needs its server no more: all that it is was
// captured, and stands ready on the other side. Should that server go away (the source is
// down while the target decides, an administrator ends its sessions, a limit on idle ones
// is reached), the client is not told: Switch gives it the other one. Only where the attempt
// is given up is the server missed, and another one is made in its place, if that can be.

// keep has the session live by its state. The caller has the turn.
func (r *relay) keep() {
	if r.warm == nil || r.captured == nil || r.changedSince() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.kept = r.mu.gate
}

// keptAt reports whether the session goes on without s. Called with mu locked.
func (r *relay) keptAt(s *server) bool {
	return r.mu.kept && r.mu.gate && r.mu.server == s && r.reason() == ""
}

// awaitMove waits for what becomes of a kept session whose server s is gone: another one has
// taken the place of s (moved), or the session is to go on at that side, and then there is to
// be a revival. It answers meanwhile whoever wants the pump to stop. Called by the server's
// pump.
func (r *relay) awaitMove(s *server) (moved bool, err error) {
	r.log.Info().Str(obs.KeyEndpoint, s.endpoint.Name).Msg("server of a parked session is gone; the session waits for the move")
	for {
		r.mu.Lock()
		r.mu.lacks = true
		if r.mu.stop && !r.mu.stopped {
			r.mu.stopped = true
			r.step()
		}
		free := !r.mu.gate && !r.mu.stop
		moved = r.mu.server != s
		changed := r.mu.changed
		if free && !moved {
			r.mu.reviving = true
			r.attend()
		}
		r.mu.Unlock()
		if moved || free {
			return moved, nil
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
			return false, errEnded
		}
	}
}

// settled waits until sessions whose servers were missed have others, or have ended.
func (p *Proxy) settled(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for _, r := range p.relays() {
		r.mu.Lock()
		_ = r.await(ctx, func() bool { return !r.mu.lacks })
		r.mu.Unlock()
		r.strike()
	}
}
