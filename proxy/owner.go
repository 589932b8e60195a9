package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// own takes the session's turn: whoever has it is the one owner of its move. The
// context that it returns ends with the session too.
func (r *relay) own(ctx context.Context) (owned context.Context, release func(), err error) {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-r.ctx.Done():
		return nil, nil, errEnded
	}
	if r.ctx.Err() != nil { // both were there, and select takes either
		<-r.turn
		return nil, nil, errEnded
	}
	owned, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.ctx, cancel)
	return owned, func() {
		stop()
		cancel()
		<-r.turn
	}, nil
}

// seize waits for a boundary, stops the client there and takes the server from
// its pump. Until release the owner alone reads and writes the server. What
// inject holds at release is delivered to the client first. An error says why there was no boundary.
func (r *relay) seize(ctx context.Context) (*server, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.wanted = true
	r.attend()
	for {
		err := r.await(ctx, func() bool { return r.still() || r.mu.reviving })
		if err == nil && r.mu.reviving {
			err = errReviving // that needs the turn, which the caller has
		}
		if err != nil {
			why := r.reason()
			r.letGo()
			return nil, &busyError{reason: why, err: err}
		}
		// The pump may be in a read: a deadline ends it between two messages or
		// within one, which is seen below.
		r.mu.stop = true
		r.step() // where there is no read to be ended
		s := r.mu.server
		_ = s.conn.SetReadDeadline(longAgo)
		if err := r.await(ctx, func() bool { return r.mu.stopped }); err != nil {
			r.readOn(s)
			r.letGo()
			return nil, &busyError{reason: "reply not taken by the client", err: err}
		}
		r.readOn(s)
		if r.still() && s.in.whole() && r.mu.server == s {
			return s, nil
		}
		r.mu.stop = false
		r.step()
		if r.mu.reviving {
			continue
		}
		// Half a message has come: let the pump have the rest of it.
		changed := r.mu.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		case <-r.ctx.Done():
		}
		r.mu.Lock()
		if err := errors.Join(ctx.Err(), r.ctx.Err()); err != nil {
			r.letGo()
			return nil, &busyError{reason: "message of the server half received", err: err}
		}
	}
}

// readOn ends the interruption of the server's pump. Called with mu locked.
func (r *relay) readOn(s *server) {
	_ = s.conn.SetReadDeadline(time.Time{})
	if r.ctx.Err() != nil {
		_ = s.conn.SetDeadline(longAgo)
	}
}

// unseize gives the server back to the pumps.
func (r *relay) unseize() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.letGo()
}

// letGo is unseize with mu locked.
func (r *relay) letGo() {
	r.mu.wanted, r.mu.stop = false, false
	r.attend()
}

// errReviving says that there is no server to be had at the moment.
var errReviving = errors.New("its server is gone and another one is being made")

// busyError says why a session did not come to a boundary.
type busyError struct {
	reason string
	err    error
}

func (e *busyError) Error() string {
	if e.reason == "" {
		return fmt.Sprintf("session does not stop: %v", e.err)
	}
	return fmt.Sprintf("session does not stop (%s): %v", e.reason, e.err)
}

func (e *busyError) Unwrap() error { return e.err }
