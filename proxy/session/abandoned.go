package session

import (
	"context"
	"errors"
	"io"
	"time"

	"crossfade/internal/base/obs"
	"crossfade/proxy/ask"
	"crossfade/proxy/ending"
	"crossfade/proxy/poll"
	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

// A client whose connection has ended may leave its server working. There are two possible reasons,
// which look the same: the client has closed its half of the connection and waits for its answer,
// or the client no longer exists. So the session continues until its server has answered, and stays
// in the registry, where a drain finds it and names it. Meanwhile the proxy finds out whether the
// client still exists. If it does not, the server is asked to cancel the statement, as a server
// with client_connection_check_interval set does by itself.

// Bounds of a session without a client.
const (
	// probeFirst and probeMost are the first and the longest pause between two probes of a
	// client's end: the first is a round trip on one machine.
	probeFirst = 20 * time.Millisecond
	probeMost  = 2 * time.Second
	// maxCancels bounds how often a server is asked to cancel. A request may arrive between two
	// statements, and one that is ignored five times will be ignored again.
	maxCancels = 5
	// maxLastCancels is the same for a server that is about to be closed.
	maxLastCancels = 3
	// cancelWaitFirst is how long a server has to obey the first request; each later one gets twice
	// as long as the one before it.
	cancelWaitFirst = 250 * time.Millisecond
	// activityFirst and activityMost are the first and the longest pause between two checks of what
	// the server does.
	activityFirst = 200 * time.Millisecond
	activityMost  = time.Minute
	// sideQuestionTimeout bounds one request to cancel, and one check of what the server does.
	sideQuestionTimeout = 2 * time.Second
)

// seeOut is what the client's pump does once nothing more comes from the client: it returns when
// the server owes no more answers. err says how the client ended.
func (r *clientPump) seeOut(err error) error {
	r.mu.Lock()
	if r.ctx.Err() != nil || !r.mu.tracker.Owes() {
		r.mu.Unlock()
		return ending.ErrClientGone
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		r.mu.end.dead = true
	}
	r.mu.end.half = true
	r.attend()
	r.mu.Unlock()

	o := abandoned{r: r.Session, pause: probeFirst}
	defer o.stop()
	for due := true; ; {
		if due && !r.unread() {
			r.ping()
		}
		r.mu.Lock()
		changed := r.mu.changed
		owes, dead, gated := r.mu.tracker.Owes() || r.toClient.Load(), r.mu.end.dead, r.mu.hold.gate
		polite := r.mu.tracker.Reason() == wire.ReasonTerminated // it has said good-bye: what it asked for is to be done
		r.mu.Unlock()
		if !owes || r.ctx.Err() != nil {
			return ending.ErrClientGone
		}
		if gated && !o.gated {
			o.cancels, o.next = 0, time.Time{} // once more, for the pause that waits for it now
		}
		o.gated = gated
		if dead && (gated || !polite) {
			o.cancel()
		}
		if due && o.answered() {
			return ending.ErrClientGone
		}
		due = o.wait(changed)
	}
}

// abandoned is a session whose client is gone. It belongs to the client's pump.
type abandoned struct {
	r         *Session
	pause     time.Duration // until the next probe
	due       *time.Timer   // of it
	cancels   int
	next      time.Time // of the next cancel request
	gated     bool
	nextCheck time.Time // when the server is checked next
	checks    int
	idle      int    // checks in a row that found it idle
	taken     uint64 // bytes that had come from it at the last look
}

// wait waits for a step of the session, or until the next probe is due, and reports that.
func (o *abandoned) wait(changed <-chan struct{}) (due bool) {
	if o.due == nil {
		o.due = time.NewTimer(o.pause)
	}
	select {
	case <-changed:
	case <-o.due.C:
		o.pause = min(2*o.pause, probeMost)
		o.due.Reset(o.pause)
		return true
	case <-o.r.ctx.Done():
	}
	return false
}

func (o *abandoned) stop() {
	if o.due != nil {
		o.due.Stop()
	}
}

// cancel asks the server to cancel what it does, if it is time to.
func (o *abandoned) cancel() {
	r := o.r
	if time.Now().Before(o.next) {
		return
	}
	if o.cancels == maxCancels {
		o.next = time.Now().Add(time.Minute)
		r.Log.Warn().Int32(obs.KeyPID, r.ServerPID()).Msg("a statement of a client that is gone does not end: pg_terminate_backend ends it")
		return
	}
	if r.work.countAbandoned() {
		r.Log.Info().Int32(obs.KeyPID, r.ServerPID()).Str(obs.KeyUser, r.User).Msg("client is gone: what its server is doing is cancelled")
	}
	r.work.cancelAbandoned(r.ctx)
	o.next = time.Now().Add(cancelWaitFirst << o.cancels)
	o.cancels++
}

// answered checks, at growing intervals, whether the server does anything. If it is idle in two
// checks in a row, and nothing of it is on its way to the client, it has sent the answer, or never
// will: its connection is broken, or it does not speak the protocol.
func (o *abandoned) answered() bool {
	now := time.Now()
	switch {
	case o.nextCheck.IsZero():
		o.nextCheck = now.Add(activityFirst)
		return false
	case now.Before(o.nextCheck):
		return false
	case o.delivering():
		o.idle = 0
		return false
	case o.r.work.serverBusy():
		o.idle, o.checks = 0, o.checks+1
		o.nextCheck = now.Add(min(activityFirst<<min(o.checks, 10), activityMost))
		return false
	}
	o.idle++
	return o.idle == 2
}

// delivering reports that the client takes what the server has said, or is waited for to do so,
// or that it did since the last look: a client may take longer than its server, which has no
// part in that.
func (o *abandoned) delivering() bool {
	r := o.r
	r.mu.Lock()
	defer r.mu.Unlock()
	before := o.taken
	o.taken = r.mu.serving.taken
	return r.toClient.Load() || o.taken != before
}

// serverBusy asks, on another connection, whether the session's server does anything. If that
// cannot be found out, it returns true.
func (r *work) serverBusy() bool {
	ctx, cancel := context.WithTimeout(r.ctx, sideQuestionTimeout)
	defer cancel()
	busy := true
	err := r.p.Sides.WithSideConn(ctx, r.caller(), func(ctx context.Context, l *state.Link) (err error) {
		busy, err = ask.Busy(ctx, l, r.ServerPID())
		return err
	})
	return busy || err != nil
}

// cancelAbandoned makes one request, within a bound; the number of concurrent requests is bounded
// too.
func (r *work) cancelAbandoned(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sideQuestionTimeout)
	defer cancel()
	done, err := r.p.Sides.Place(ctx)
	if err != nil {
		return
	}
	defer done()
	r.cancelServer(ctx)
}

// leaveNothingAtWork is called before the server is closed: what it still does is for a session
// that has been ended and that no report can name any more.
func (r *work) leaveNothingAtWork(cause error) {
	r.mu.Lock()
	working := r.mu.tracker.Working()
	r.mu.Unlock()
	if !working || errors.Is(cause, ending.ErrServerGone) || errors.As(cause, new(*ending.ToldError)) {
		return
	}
	r.countAbandoned()
	for n := range maxLastCancels {
		r.cancelAbandoned(context.Background())
		if r.restsWithin(cancelWaitFirst << n) {
			return
		}
	}
}

// restsWithin reads what the server sends, for at most d, and reports whether it has nothing left
// to do. A request to cancel that arrived before the statement did has cancelled nothing. Called
// when both pumps have ended.
func (r *work) restsWithin(d time.Duration) bool {
	conn := r.mu.server.conn
	_ = conn.SetReadDeadline(time.Now().Add(d))
	buf := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buf)
		r.mu.Lock()
		_, broken := r.mu.tracker.Server(buf[:n])
		working := r.mu.tracker.Working()
		r.mu.Unlock()
		switch {
		case broken != nil || !working:
			return true
		case err != nil:
			return !poll.TimedOut(err) // a server that has gone does nothing
		}
	}
}

// countAbandoned counts the session, once, among those whose server was asked to cancel, and
// reports whether it did.
func (r *work) countAbandoned() bool {
	if r.abandoned {
		return false
	}
	r.abandoned = true
	r.p.Counts.Abandoned.Add(1)
	return true
}

func (r *Session) ServerPID() int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.server.pid.Load()
}

// ping finds out whether the client still exists, and reports false if it certainly does not: a
// socket that was closed answers the bytes it gets with a reset, so that the next write fails. What
// is sent repeats what the client knows already; it may be sent at any time.
func (r *clientPump) ping() bool {
	if !r.cw.TryLock() {
		return true // something is on its way to it, which tells as much
	}
	defer r.cw.Unlock()
	r.mu.Lock()
	between := !r.mu.tracker.ServerPartial() && !r.toClient.Load()
	version := r.mu.observed.params["server_version"]
	r.mu.Unlock()
	if !between {
		return true
	}
	if _, err := r.client.Write(wire.AppendParameterStatus(nil, "server_version", version)); err == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.end.dead = true
	return false
}

// outlives is called when the client does not read, and reports whether the session continues
// without it for a while. Its pump then finds out whether the client still exists.
func (r *serverPump) outlives() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil || !r.mu.end.dead && !r.mu.tracker.Owes() {
		return false
	}
	if !r.mu.end.dead {
		r.mu.end.dead = true
		_ = r.client.SetReadDeadline(LongAgo)
	}
	return true
}

// unread reports that the client does not read what it is sent.
func (r *clientPump) unread() bool {
	return r.mu.locked(func() bool { return r.mu.end.dead })
}

// parting says, of a busy session, that its client is gone. Called with mu locked.
func (r *Session) parting() string {
	switch {
	case r.mu.end.dead:
		return "; its client is gone, and what its server does is being cancelled"
	case r.mu.end.half:
		return "; its client has closed its end"
	}
	return ""
}
