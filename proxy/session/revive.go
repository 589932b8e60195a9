package session

import (
	"context"
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
	"crossfade/proxy/side"
	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

// Bounds of a revival.
const (
	// DefaultReviveTimeout bounds a revival: a suspended Neon compute is available again within
	// seconds, and most connection pools give a request 30 s.
	DefaultReviveTimeout = 30 * time.Second
	// reviveFirst and reviveMost are the first and the longest pause between two attempts.
	reviveFirst = 100 * time.Millisecond
	reviveMost  = 2 * time.Second
)

// revivable reports whether the session could be restored on another server if its server ended
// now: it is at a boundary on the target, nothing was sent since its state was captured, and
// nothing in that state is lost with the server. Called with mu locked.
func (r *Session) revivable(s *server) bool {
	j := &r.mu.judged
	// A session that the gate still holds after a switch back waits for its move.
	here := r.p.Sides.Router.Current().Endpoint == side.Target || r.mu.hold.gate
	return s.endpoint.Name == side.Target && here && r.mu.server == s &&
		r.reason() == "" && !j.at.IsZero() && j.whole && j.frames == r.mu.tracker.ClientFrames()
}

// wholeAgain reports whether a state can be restored after its server has ended. Notifications that
// arrived meanwhile are lost without a trace, and another session may have held an advisory lock
// that ended with the server. Everything else that is amber is lost in a move as well.
func wholeAgain(s *state.State) bool {
	verdict, _ := s.Judge()
	return verdict.Movable() && len(s.Channels) == 0 && len(s.Locks) == 0
}

// tryRevive is called by the server's pump when s has closed its connection, or announces in p, its
// last bytes, that it will. It restores the session on another server and reports that, or returns
// what is left of p for the client. The client waits meanwhile: what it sends is held, and sent
// once, to the new server.
func (r *serverPump) tryRevive(s *server, p []byte) (left []byte, alive bool, err error) {
	at, code, ok := lastFrames(p)
	if !ok {
		return p, false, nil
	}
	r.mu.Lock()
	between, kept := r.mu.tracker.ServerBetween(), r.keptAt(s)
	ok = between && (kept || r.revivable(s) && (code == "" || code == pg.CodeAdminShutdown || code == pg.CodeCrashShutdown))
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

// dyingWords reports whether p, what a server has just sent, is the warning of a crash or of an
// immediate shutdown that the session will outlive, so that its client need not see it.
func (r *serverPump) dyingWords(s *server, p []byte) bool {
	for len(p) > 0 {
		typ, body, rest, ok := wire.Cut(p)
		if !ok || typ != 'N' {
			return false
		}
		e, err := wire.DecodeError(body)
		if err != nil || e.Code != pg.CodeAdminShutdown && e.Code != pg.CodeCrashShutdown {
			return false
		}
		p = rest
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.tracker.ServerBetween() && (r.keptAt(s) || r.revivable(s))
}

// revivalOver makes the session's server available to owners again, and reports whether it is
// another one than s.
func (r *Session) revivalOver(s *server) (moved bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.serving.reviving {
		r.mu.serving.reviving = false
		r.attend()
	}
	return r.mu.server != s
}

// awaitRevival revives the session in another goroutine, as its owner. Meanwhile it answers any
// caller that wants the pump to stop.
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

// revive replaces a server that has ended by a new one with the captured state.
func (r *owner) revive(ctx context.Context, gone *server) error {
	start := time.Now()
	owned, release, err := r.Own(ctx)
	if err != nil {
		return err
	}
	defer release()
	// Before the turn is given back: the next owner must not believe that the pump is stopped, as
	// it seems to be while it waits for us.
	defer r.revivalOver(gone)
	r.mu.Lock()
	served := r.mu.server != gone
	r.mu.Unlock()
	if served { // a move has replaced it by a server of the other side
		return nil
	}
	if r.captured == nil || r.ChangedSince() || !wholeAgain(r.captured) {
		return errors.New("its state was not captured since its last request")
	}
	pause := reviveFirst
	for {
		w, err := r.rebuildServer(owned, gone)
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

// rebuildServer makes a server with the state of the one that has ended. The caller has the turn.
func (r *owner) rebuildServer(ctx context.Context, gone *server) (*mirror.Server, error) {
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

// hopeless reports whether another attempt would fail in the same way: the server is reachable and
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

// lastFrames walks the last bytes of a server and returns the position of its FATAL, and its
// SQLSTATE. ok says that they are whole frames and that none of them answers a request. No bytes
// mean that the socket was closed.
func lastFrames(p []byte) (at int, code string, ok bool) {
	if len(p) == 0 {
		return 0, "", true
	}
	for {
		typ, body, rest, ok := wire.Cut(p[at:])
		switch {
		case ok && (typ == 'S' || typ == 'N' || typ == 'A'):
			at = len(p) - len(rest)
		case ok && typ == 'E' && len(rest) == 0:
			if e, err := wire.DecodeError(body); err == nil && e.Fatal() {
				return at, e.Code, true
			}
			return 0, "", false
		default:
			return 0, "", false
		}
	}
}

// gone reports whether a read has found the connection closed.
func gone(err error) bool { return err != nil && !poll.TimedOut(err) }

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
