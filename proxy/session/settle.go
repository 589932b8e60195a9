package session

import (
	"context"
	"time"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/retry"
	"crossfade/proxy/ask"
	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

// quietTime is how long nothing must have been sent to a server before its word that
// it is idle counts: what was sent before has been read by then, or shows as active.
const quietTime = 50 * time.Millisecond

// Settle tries to restore the count of a session that was lost, on the word of the
// server: it stops the client for a moment and asks pg_stat_activity beside the
// session. A server that is idle has answered everything. Where it is not, or
// cannot be asked, the session goes on as it was. The caller has the turn.
func (r *owner) Settle(ctx context.Context) {
	r.mu.Lock()
	lost := r.mu.tracker.Reason() == wire.ReasonUncertain
	r.mu.Unlock()
	if !lost {
		return
	}
	r.stopFor(true)
	defer r.stopFor(false)
	if retry.Sleep(ctx, quietTime) != nil {
		return
	}
	r.mu.Lock()
	busy, pid := r.toServer.Load() || r.mu.hold.cancels > 0, r.mu.server.pid.Load()
	r.mu.Unlock()
	if busy {
		return
	}
	var idle bool
	err := r.p.Sides.Beside(ctx, r.caller(), func(ctx context.Context, l *state.Link) (err error) {
		idle, err = ask.Idle(ctx, l, pid)
		return err
	})
	if err != nil {
		r.Log.Warn().Err(err).Int32(obs.KeyPID, pid).Msg("side check not made")
		return
	}
	if idle {
		r.mu.Lock()
		r.mu.tracker.Settle()
		r.step()
		r.mu.Unlock()
	}
}

// stopFor stops the client for the side check, or lets it go.
func (r *owner) stopFor(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.hold.settling = on
	r.attend()
}
