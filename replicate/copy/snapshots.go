package copy

import (
	"context"
	"errors"
	"sync"
	"time"

	"crossfade/replicate/snapshot"
)

// snapshots hands out the holders that relations are copied under. Those that it
// made itself are closed when the last relation lets go of them.
type snapshots struct {
	connect snapshot.Connect

	mu      sync.Mutex
	current *snapshot.Holder // for relations that have no reason for another one
	lent    *snapshot.Holder // the caller's: never closed here
	users   map[*snapshot.Holder]int
}

// newSnapshots takes the caller's holder, if it still lives, or makes one.
func newSnapshots(ctx context.Context, connect snapshot.Connect, lent *snapshot.Holder) (*snapshots, error) {
	s := &snapshots{connect: connect, lent: lent, current: lent, users: map[*snapshot.Holder]int{}}
	if lent != nil {
		err := lent.Check(ctx)
		if err == nil || !errors.Is(err, snapshot.ErrLost) {
			return s, err
		}
	}
	h, err := s.export(ctx)
	s.current = h
	return s, err
}

func (s *snapshots) export(ctx context.Context) (*snapshot.Holder, error) {
	return snapshot.Export(ctx, s.connect)
}

// shared returns the holder of relations that have no reason for another one.
func (s *snapshots) shared() *snapshot.Holder {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[s.current]++
	return s.current
}

// fresh returns a snapshot taken now. With lost set it may also be one that
// another relation took since that holder was found lost. The lock is held over
// the login, so that many relations that lost one snapshot take one new one.
func (s *snapshots) fresh(ctx context.Context, lost *snapshot.Holder) (*snapshot.Holder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lost != nil && s.current != lost && s.current.Check(ctx) == nil {
		s.users[s.current]++
		return s.current, nil
	}
	h, err := s.export(ctx)
	if err != nil {
		return nil, err
	}
	s.users[h]++
	if lost != nil && s.current == lost {
		s.current = h
	}
	return h, nil
}

// release takes one use of h back.
func (s *snapshots) release(h *snapshot.Holder) {
	if h == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[h]--
	if s.users[h] > 0 || h == s.current {
		return
	}
	delete(s.users, h)
	if h != s.lent {
		h.Close()
	}
}

// close lets go of everything but the caller's holder.
func (s *snapshots) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.users[s.current]++
	}
	for h := range s.users {
		if h != s.lent {
			h.Close()
		}
	}
	s.users = nil
}

// keepAlive is how often silent holders are asked for a sign of life: well below
// the minutes after which firewalls forget a connection.
const keepAlive = 30 * time.Second

// run keeps the sessions of the holders busy until ctx ends. That one was lost
// is noticed by its readers, so that it is no error here.
func (s *snapshots) run(ctx context.Context) {
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		for h := range s.users {
			_ = h.Check(ctx)
		}
		s.mu.Unlock()
	}
}
