package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/proxy/backend"
	"crossfade/proxy/ending"
	"crossfade/proxy/mirror"
	"crossfade/proxy/poll"
	"crossfade/proxy/rewrite"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

// Bounds of a revival.
const (
	// DefaultReviveTimeout bounds a revival: a suspended Neon compute is back within some
	// seconds, and most pools give a request 30.
	DefaultReviveTimeout = 30 * time.Second
	// reviveFirst and reviveMost are the first and the longest pause between two tries.
	reviveFirst = 100 * time.Millisecond
	reviveMost  = 2 * time.Second
)

// revivable reports whether the session, should its server go now, can be made whole
// on another one: it is at a boundary on the target, nothing was sent since its state
// was captured, and there is nothing in that state which was lost with the server.
// Called with mu locked.
func (r *Session) revivable(s *server) bool {
	j := &r.mu.judged
	// A session that the gate still holds behind a switch back waits for its move.
	here := r.p.Sides.Router.Current().Endpoint == side.Target || r.mu.hold.gate
	return s.endpoint.Name == side.Target && here && r.mu.server == s &&
		r.reason() == "" && !j.at.IsZero() && j.whole && j.frames == r.mu.tracker.ClientFrames()
}

// wholeAgain reports whether a state can be made again when its server is gone. A
// notification that nobody was there to hear cannot be known, and an advisory lock
// that went with the server may have been another's since. What else is amber is lost
// to a move as well.
func wholeAgain(s *state.State) bool {
	verdict, _ := s.Judge()
	return verdict.Movable() && len(s.Channels) == 0 && len(s.Locks) == 0
}

// survive is called by the server's pump when s has closed its connection, or says
// in p, its last bytes, that it will. It makes the session whole on another server
// and reports that, or returns what is left of p for the client. The client waits
// meanwhile: what it sends is held, and sent once, to the new server.
func (r *serverPump) survive(s *server, p []byte) (left []byte, alive bool, err error) {
	at, code, ok := lastFrames(p)
	if !ok || !s.in.Whole() {
		return p, false, nil
	}
	r.mu.Lock()
	kept := r.keptAt(s)
	ok = kept || r.revivable(s) && (code == "" || code == pg.CodeAdminShutdown || code == pg.CodeCrashShutdown)
	if ok && !kept {
		r.mu.serving.reviving = true
		r.attend()
	}
	r.mu.Unlock()
	if !ok {
		return p, false, nil
	}
	words := append([]byte(nil), p[at:]...)
	if at > 0 {
		err = r.deliver(s, p[:at])
	}
	s.in.Release()
	if err == nil && kept {
		var moved bool
		if moved, err = r.awaitMove(s); moved {
			return nil, true, nil
		}
	}
	if err == nil {
		err = r.awaitRevival(s)
	}
	if moved := r.revivalOver(s); err == nil || moved {
		r.p.Counts.Revived.Add(1)
		return nil, true, nil
	}
	r.Log.Warn().Err(err).Str(obs.KeyEndpoint, s.endpoint.Name).Msg("session not revived")
	return words, false, nil
}

// dyingWords reports that p, what a server has just said, is the warning of a crash or of an
// immediate shutdown, and that the session outlives that: its client need not hear it.
func (r *serverPump) dyingWords(s *server, p []byte) bool {
	if p[0] != 'N' || !s.in.Whole() {
		return false
	}
	for len(p) > 0 {
		n, e := notice(p)
		if e == nil || e.Code != pg.CodeAdminShutdown && e.Code != pg.CodeCrashShutdown {
			return false
		}
		p = p[n:]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keptAt(s) || r.revivable(s)
}

// notice decodes the notice that p begins with, nil for anything else.
func notice(p []byte) (int, *wire.ServerError) {
	if len(p) < rewrite.HeadLen || p[0] != 'N' {
		return 0, nil
	}
	n := int64(binary.BigEndian.Uint32(p[1:])) + 1
	if n < rewrite.HeadLen || n > int64(len(p)) {
		return 0, nil
	}
	e, err := wire.DecodeError(p[rewrite.HeadLen:n])
	if err != nil {
		return 0, nil
	}
	return int(n), e
}

// revivalOver lets owners find the session's server again, and reports whether that
// is another one than s.
func (r *Session) revivalOver(s *server) (moved bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.serving.reviving {
		r.mu.serving.reviving = false
		r.attend()
	}
	return r.mu.server != s
}

// awaitRevival has another goroutine revive the session, as its owner, and answers
// meanwhile whoever wants the pump to stop.
func (r *serverPump) awaitRevival(s *server) error {
	ctx, cancel := context.WithTimeout(r.ctx, r.p.ReviveTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := ending.ErrEnded
		defer func() { done <- err }()
		defer r.p.Recovered(r.Session)
		err = r.Owner.revive(ctx, s)
	}()
	for {
		r.mu.Lock()
		if r.mu.hold.pump == pumpStopping {
			r.mu.hold.pump = pumpStopped
			r.step()
		}
		changed := r.mu.changed
		r.mu.Unlock()
		select {
		case err := <-done:
			return err
		case <-changed:
		}
	}
}

// revive puts a new server with the captured state in the place of one that is gone.
func (r *owner) revive(ctx context.Context, gone *server) error {
	start := time.Now()
	owned, release, err := r.Own(ctx)
	if err != nil {
		return err
	}
	defer release()
	// Before the turn is given back: the next owner must not take the pump for one that
	// stands still, as it does while it waits for us.
	defer r.revivalOver(gone)
	r.mu.Lock()
	served := r.mu.server != gone
	r.mu.Unlock()
	if served { // a move has put the other side's in its place
		return nil
	}
	if r.captured == nil || r.ChangedSince() || !wholeAgain(r.captured) {
		return errors.New("its state was not captured since its last request")
	}
	pause := reviveFirst
	for {
		w, err := r.renascent(owned, gone)
		if err == nil {
			r.replace(gone, w)
			r.Log.Info().Str(obs.KeyEndpoint, gone.endpoint.Name).Dur("took", time.Since(start)).Msg("session revived on a new server")
			return nil
		}
		if hopeless(err) || owned.Err() != nil {
			return err
		}
		if retry.Sleep(owned, pause) != nil {
			return fmt.Errorf("revive the session within %s: %w", r.p.ReviveTimeout, err)
		}
		pause = min(pause*8/5, reviveMost)
	}
}

// renascent makes a server that is as the one that is gone was. The caller has the turn.
func (r *owner) renascent(ctx context.Context, gone *server) (*mirror.Server, error) {
	same := func(name string) string { return name } // the state is of this side
	w, err := r.warmUpAs(ctx, gone.endpoint, side.Roles(r.User, gone.login, gone.endpoint), same)
	if err != nil {
		return nil, err
	}
	if err := w.Finish(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// hopeless reports whether another try would come to the same: the server is there and
// refuses the role, the database or the state (backend.Classify).
func hopeless(err error) bool {
	var step *state.StepError
	var mirror *mirror.DiffersError
	if errors.As(err, &mirror) {
		return true
	}
	var refused *wire.ServerError
	if !errors.As(err, &refused) {
		return errors.As(err, &step)
	}
	return backend.Classify(err) == backend.Stop
}

// lastFrames walks the last bytes of a server and returns where its FATAL stands, and its
// SQLSTATE. ok says that they are whole frames and that nothing in them answers a request.
// No bytes are a socket that was closed.
func lastFrames(p []byte) (at int, code string, ok bool) {
	if len(p) == 0 {
		return 0, "", true
	}
	for at < len(p) {
		if len(p)-at < 5 {
			return 0, "", false
		}
		n := int64(binary.BigEndian.Uint32(p[at+1:])) + 1
		if n < 5 || n > int64(len(p)-at) {
			return 0, "", false
		}
		switch p[at] {
		case 'S', 'N', 'A':
			at += int(n)
		case 'E':
			e, err := wire.DecodeError(p[at+5 : at+int(n)])
			if err != nil || !e.Fatal() || at+int(n) != len(p) {
				return 0, "", false
			}
			return at, e.Code, true
		default:
			return 0, "", false
		}
	}
	return 0, "", false
}

// gone reports whether a read has found the connection closed.
func gone(err error) bool { return err != nil && !poll.TimedOut(err) }
