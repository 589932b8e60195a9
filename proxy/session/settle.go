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

// quietTime is how long nothing must have been sent to a server before its report that it is idle
// counts: what was sent before has been read by then, or the report says active.
const quietTime = 50 * time.Millisecond

// Settle tries to restore a count that was lost by asking the server: it stops the client for a
// moment and asks pg_stat_activity on another connection. A server that is idle has answered
// everything. If it is not idle, or cannot be asked, the session continues unchanged. The caller
// has the turn.
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
	err := r.p.Sides.WithSideConn(ctx, r.caller(), func(ctx context.Context, l *state.Link) (err error) {
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
