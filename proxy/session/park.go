package session

import (
	"errors"
	"io"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/proxy/ending"
	"crossfade/proxy/poll"
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
		_ = r.client.SetReadDeadline(time.Time{})
		if r.ctx.Err() != nil { // its interruption may have come just before
			_ = r.client.SetReadDeadline(LongAgo)
		}
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
