package session

import (
	"context"
	"time"

	"crossfade/internal/base/obs"
	"crossfade/proxy/ending"
)

// From the end of Restage on a parked session no longer needs its server: its whole state was
// captured, and a mirror is ready on the other side. If that server goes away (the source is down
// while the target decides, an administrator ends its sessions, a limit on idle ones is reached),
// the client is not told: Switch gives it the other one. Only if the attempt is aborted is the
// server needed, and then another one is made in its place if possible.

// Keep has the session live by its state. The caller has the turn.
func (r *owner) Keep() {
	if r.warm == nil || r.captured == nil || r.ChangedSince() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.serving.kept = r.mu.hold.gate
}

// keptAt reports whether the session continues without s. Called with mu locked.
func (r *Session) keptAt(s *server) bool {
	return r.mu.serving.kept && r.mu.hold.gate && r.mu.server == s && r.reason() == ""
}

// awaitMove waits until it is known what becomes of a kept session whose server s is gone: either
// another server has taken the place of s (moved), or the session is to continue on that side and
// has to be revived. Meanwhile it answers any caller that wants the pump to stop. Called by the
// server's pump.
func (r *serverPump) awaitMove(s *server) (moved bool, err error) {
	r.Log.Info().Str(obs.KeyEndpoint, s.endpoint.Name).Msg("server of a parked session is gone; the session waits for the move")
	for {
		r.mu.Lock()
		r.mu.serving.lacks = true
		if r.mu.hold.pump == pumpStopping {
			r.mu.hold.pump = pumpStopped
			r.step()
		}
		free := !r.mu.hold.gate && r.mu.hold.pump == pumpRuns
		moved = r.mu.server != s
		changed := r.mu.changed
		if free && !moved {
			r.mu.serving.reviving = true
			r.attend()
		}
		r.mu.Unlock()
		if moved || free {
			return moved, nil
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
			return false, ending.ErrEnded
		}
	}
}

// Settled waits until sessions whose servers were missed have others, or have ended.
func (p *Registry) Settled(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, SettleTimeout)
	defer cancel()
	for _, r := range p.List() {
		r.mu.Lock()
		_ = r.await(ctx, func() bool { return !r.mu.serving.lacks })
		r.mu.Unlock()
		r.Strike()
	}
}

// SettleTimeout bounds the wait for held clients to continue after a switch, so that the report has
// their times.
const SettleTimeout = time.Second
