package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"crossfade/proxy/ending"
	"crossfade/proxy/mirror"
	"crossfade/proxy/state"
)

// owner is the session as the holder of its turn sees it, with what is known of it from one turn to
// the next: only the holder of the turn touches the fields after it.
type owner struct {
	*Session
	turn     chan struct{}
	captured *state.State
	frames   uint64                        // client frames at that capture
	names    []string                      // custom settings that the capture asked for
	surveyed map[surveyKey]state.Statement // prepared statements that its server was asked about
	warm     *mirror.Server
}

// Own takes the session's turn: its holder is the one owner of the session's move. The context that
// it returns ends with the session too.
func (r *owner) Own(ctx context.Context) (owned context.Context, release func(), err error) {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-r.ctx.Done():
		return nil, nil, ending.ErrEnded
	}
	if r.ctx.Err() != nil { // both were there, and select takes either
		<-r.turn
		return nil, nil, ending.ErrEnded
	}
	owned, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.ctx, cancel)
	return owned, func() {
		stop()
		cancel()
		<-r.turn
	}, nil
}

// seize waits for a boundary, stops the client there and takes the server from its pump. Until
// release the owner alone reads and writes the server. What inject holds at release is delivered to
// the client first. An error says why there was no boundary.
func (r *owner) seize(ctx context.Context) (*server, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.hold.wanted = true
	r.attend()
	for {
		err := r.await(ctx, func() bool { return r.still() || r.mu.serving.reviving })
		if err == nil && r.mu.serving.reviving {
			err = errReviving // that needs the turn, which the caller has
		}
		if err != nil {
			why := r.reason()
			r.letGo()
			return nil, &BusyError{Reason: why, err: err}
		}
		// The pump may be in a read: a deadline ends it between two messages or
		// within one, which is seen below.
		r.mu.hold.pump = pumpStopping
		r.step() // where there is no read to be ended
		s := r.mu.server
		_ = s.conn.SetReadDeadline(LongAgo)
		if err := r.await(ctx, func() bool { return r.mu.hold.pump == pumpStopped }); err != nil {
			r.readOn(s)
			r.letGo()
			return nil, &BusyError{Reason: "reply not taken by the client", err: err}
		}
		r.readOn(s)
		if r.still() && s.in.Empty() && r.mu.server == s {
			return s, nil
		}
		r.mu.hold.pump = pumpRuns
		r.step()
		if r.mu.serving.reviving {
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
			return nil, &BusyError{Reason: "message of the server half received", err: err}
		}
	}
}

// readOn ends the interruption of the server's pump. Called with mu locked.
func (r *Session) readOn(s *server) {
	_ = s.conn.SetReadDeadline(time.Time{})
	if r.ctx.Err() != nil {
		_ = s.conn.SetDeadline(LongAgo)
	}
}

// unseize gives the server back to the pumps.
func (r *owner) unseize() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.letGo()
}

// letGo is unseize with mu locked.
func (r *owner) letGo() {
	r.mu.hold.wanted, r.mu.hold.pump = false, pumpRuns
	r.attend()
}

// errReviving says that there is no server to be had at the moment.
var errReviving = errors.New("its server is gone and another one is being made")

// BusyError says why a session did not come to a boundary.
type BusyError struct {
	Reason string
	err    error
}

func (e *BusyError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("session does not stop: %v", e.err)
	}
	return fmt.Sprintf("session does not stop (%s): %v", e.Reason, e.err)
}

func (e *BusyError) Unwrap() error { return e.err }

// ForgetShapes makes the next capture ask the server about every prepared statement again.
func (r *owner) ForgetShapes() { r.surveyed = nil }

// State is what the last capture has found; nil for none.
func (r *owner) State() *state.State { return r.captured }
