package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/internal/base/sqltext"
	"crossfade/proxy/ask"
	"crossfade/proxy/ending"
	"crossfade/proxy/poll"
	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

// park holds p, which may not go to the server now, and returns what is left of it as soon as some
// of it may. Meanwhile it continues to read while there is room in the buffer, so that a client
// that leaves is noticed; what does not fit stays in the kernel and stops the client. A client that
// has closed its half of the connection after its request waits for the answer as long as it is
// there. The client's pump is the only caller.
func (r *clientPump) park(p []byte) (left []byte, err error) {
	since := time.Now()
	gated, parted := false, false
	pause := probeFirst
	var bound time.Time // of the hold; a client that waits for its own reply is not held by us
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.awake()
		r.mu.parking.waiting, r.mu.parking.cancel = false, false
		if gated && !r.mu.hold.gate && err == nil {
			r.p.Held.add(time.Since(since))
		}
		if r.attention.Load() || gated {
			r.step()
		}
	}()
	for {
		r.mu.Lock()
		r.awake()
		boundary := r.mu.tracker.Boundary()
		switch {
		case r.mu.end.dead:
			r.mu.Unlock()
			return nil, ending.ErrClientGone
		case r.allowed(p) > 0:
			r.mu.Unlock()
			return p, nil
		case boundary && p[0] == 'X' && len(p) >= 5:
			r.mu.Unlock()
			return nil, ending.ErrClientGone
		case boundary && r.mu.parking.cancel:
			r.mu.parking.cancel = false
			r.mu.Unlock()
			left, err := r.refuseUnit(p)
			if err != nil || len(left) == 0 {
				return nil, err
			}
			p = left
			continue
		}
		r.mu.parking.waiting = true
		gated = gated || r.mu.hold.gate
		counts := boundary && r.mu.hold.gate
		if counts && bound.IsZero() {
			bound = time.Now().Add(r.p.HoldLimit)
		}
		if counts && !time.Now().Before(bound) {
			r.mu.Unlock()
			return nil, ending.Fatal(pg.CodeCannotConnectNow, "the database is being moved and has not answered within %s; nothing of your last request was run", r.p.HoldLimit)
		}
		changed := r.mu.changed
		full := r.in.Full(p)
		if !full && !parted {
			r.mu.parking.asleep = true
			if counts {
				_ = r.client.SetReadDeadline(bound)
			}
		}
		r.mu.Unlock()

		switch {
		case parted:
			if !r.ping() {
				return nil, ending.ErrClientGone
			}
			if err := r.sleep(changed, bound, time.After(pause)); err != nil {
				return nil, err
			}
			pause = min(2*pause, probeMost)
			continue
		case full:
			if err := r.sleep(changed, bound, nil); err != nil {
				return nil, err
			}
			continue
		}
		if p, err = r.in.More(p); err != nil && (!poll.TimedOut(err) || r.ctx.Err() != nil) {
			if parted = r.ctx.Err() == nil && errors.Is(err, io.EOF) && firstUnit(p) > 0; !parted {
				return nil, ending.ErrClientGone
			}
			err = nil
		}
	}
}

// sleep waits for a change, without checking the client, until bound if there is one, and until
// probe, which may be nil.
func (r *clientPump) sleep(changed <-chan struct{}, bound time.Time, probe <-chan time.Time) error {
	var limit <-chan time.Time
	if !bound.IsZero() {
		t := time.NewTimer(time.Until(bound))
		defer t.Stop()
		limit = t.C
	}
	select {
	case <-changed:
	case <-limit:
	case <-probe:
	case <-r.ctx.Done():
		return ending.ErrEnded
	}
	return nil
}

// awake ends the client pump's sleep. Called with mu locked, by the client's pump.
func (r *clientPump) awake() {
	if r.mu.parking.asleep {
		r.mu.parking.asleep = false
		r.mu.attachment.listen()
	}
}

// refuseUnit answers the first unit of p as a cancelled statement and drops it. Where the unit is
// not complete, or asks for nothing, it does nothing, as a server that is not running anything.
func (r *clientPump) refuseUnit(p []byte) ([]byte, error) {
	n := firstUnit(p)
	if n == 0 {
		return p, nil
	}
	answer := wire.AppendError(nil, &wire.ServerError{Severity: "ERROR", Code: pg.CodeQueryCanceled, Message: "canceling statement due to user request"})
	answer = wire.AppendReadyForQuery(answer, 'I')
	r.cw.Lock()
	defer r.cw.Unlock()
	r.mu.Lock()
	between := !r.mu.tracker.ServerPartial()
	r.mu.Unlock()
	if !between {
		return p, nil // an asynchronous message is half way to the client: the cancel came too early
	}
	if _, err := r.client.Write(answer); err != nil {
		return nil, ending.ErrClientGone
	}
	return p[n:], nil
}

// firstUnit returns the length of the unit that p begins with, 0 when its end is
// not in p or when it is a lone Sync.
func firstUnit(p []byte) int {
	work := false
	for at := 0; ; {
		typ, _, rest, ok := wire.Cut(p[at:])
		if !ok {
			return 0
		}
		at = len(p) - len(rest)
		switch typ {
		case 'Q', 'F':
			return at
		case 'S':
			if !work {
				return 0
			}
			return at
		case 'X':
			return 0
		case 'P', 'B', 'D', 'E', 'C':
			work = true
		}
	}
}

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

// A transaction that was prepared holds its locks until its COMMIT PREPARED, which any session may
// send, and which is no part of a transaction: at the closed gate it would be held, and the fence
// would wait for it. So while sessions drain, statements that end a prepared transaction are let
// through, and the drain waits until none is left.

// twoPhase counts the prepared transactions of the clients. Called with mu locked.
func (m *observed) twoPhase(tag []byte) {
	switch string(tag) {
	case "PREPARE TRANSACTION":
		m.r.p.Counts.Prepared.Add(1)
	case "COMMIT PREPARED", "ROLLBACK PREPARED":
		m.r.p.Counts.Prepared.Add(-1)
	}
}

// finishing returns the length of the unit that p begins with, if all that it does is to
// end a prepared transaction and the drain lets it, else 0. Called with mu locked.
func (r *clientPump) finishing(p []byte) int {
	if !r.mu.hold.gate || r.mu.hold.wanted || !r.p.Draining.Load() || !r.mu.tracker.Boundary() {
		return 0
	}
	n := firstUnit(p)
	if n == 0 || !endsPrepared(p[:n]) {
		return 0
	}
	return n
}

// endsPrepared reports whether a unit is one statement that ends a prepared transaction.
func endsPrepared(unit []byte) bool {
	parses := 0
	for len(unit) > 0 {
		typ, body, rest, ok := wire.Cut(unit)
		if !ok {
			return false
		}
		switch typ {
		case 'Q':
			return EndsPrepared(string(body))
		case 'P':
			_, text, _ := bytes.Cut(body, []byte{0})
			text, _, _ = bytes.Cut(text, []byte{0})
			if parses++; parses > 1 || !EndsPrepared(string(text)) {
				return false
			}
		case 'B', 'D', 'E', 'C', 'H', 'S':
		default:
			return false
		}
		unit = rest
	}
	return parses == 1
}

// EndsPrepared reports whether a text is one COMMIT PREPARED or ROLLBACK PREPARED.
func EndsPrepared(text string) bool {
	l := sqltext.Scanner{Src: text}
	if t := l.Next(); !t.Is("commit") && !t.Is("rollback") {
		return false
	}
	if !l.Next().Is("prepared") || l.Next().Kind != sqltext.String {
		return false
	}
	t := l.Next()
	for t.Punct(';') || t.Punct(0) {
		t = l.Next()
	}
	return t.Kind == sqltext.End
}
