package copy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/snapshot"
)

// snapshots hands out the holders that relations are copied under. Those that it made itself are
// closed when the last relation has released them.
type snapshots struct {
	connect snapshot.Connect
	follow  *Stream // nil without a slot

	mu      sync.Mutex
	current *snapshot.Holder // for relations that have no reason for another one
	callers *snapshot.Holder // the caller's: never closed here
	users   map[*snapshot.Holder]int
	lost    map[*snapshot.Holder]bool   // were current once
	marks   map[*snapshot.Holder]pg.LSN // see mark
}

// newSnapshots takes the caller's holder, if it still lives, or makes one.
func newSnapshots(ctx context.Context, cfg *Config) (*snapshots, error) {
	s := &snapshots{connect: cfg.Source, follow: cfg.Stream, callers: cfg.Snapshot, current: cfg.Snapshot,
		users: map[*snapshot.Holder]int{}, marks: map[*snapshot.Holder]pg.LSN{}, lost: map[*snapshot.Holder]bool{}}
	if s.callers != nil {
		err := s.callers.Check(ctx)
		if err == nil {
			_ = s.callers.Double(ctx) // one session will do
		}
		if err == nil || !errors.Is(err, snapshot.ErrLost) {
			return s, err
		}
		if cfg.OneMoment {
			return nil, retry.Permanent(fmt.Errorf("%w: %w", ErrMoment, err))
		}
	}
	h, err := s.export(ctx)
	s.current = h
	return s, err
}

// export takes a snapshot. With a stream it must see all that the stream leaves
// out, which is what the slot's snapshot sees; that is nearly always so at once.
func (s *snapshots) export(ctx context.Context) (*snapshot.Holder, error) {
	for try := 1; ; try++ {
		h, err := snapshot.Export(ctx, s.connect)
		if err != nil {
			return nil, err
		}
		if s.follow == nil {
			_ = h.Double(ctx)
			return h, nil
		}
		floor, err := pg.ParseSnapshot(s.follow.Snapshot)
		if err == nil && h.Snapshot().Contains(floor) {
			var at pg.LSN
			if at, err = mark(ctx, s.connect); err == nil {
				s.marks[h] = at
				_ = h.Double(ctx)
				return h, nil
			}
		}
		h.Close()
		if err == nil && try == commitVisibleTries {
			err = errCommitNotVisible
		}
		if err != nil {
			return nil, err
		}
		if err := retry.Sleep(ctx, commitVisiblePause); err != nil {
			return nil, err
		}
	}
}

// marked returns a position of the source's log after the commits of all that h sees.
func (s *snapshots) marked(ctx context.Context, h *snapshot.Holder) (pg.LSN, error) {
	s.mu.Lock()
	at, ok := s.marks[h]
	s.mu.Unlock()
	if ok {
		return at, nil
	}
	at, err := mark(ctx, s.connect)
	if err == nil {
		s.mu.Lock()
		s.marks[h] = at
		s.mu.Unlock()
	}
	return at, err
}

// shared returns the holder of relations that have no reason for another one.
func (s *snapshots) shared() *snapshot.Holder {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[s.current]++
	return s.current
}

// use counts one more relation that is copied under h.
func (s *snapshots) use(h *snapshot.Holder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[h]++
}

// replaced reports whether h was the shared holder and was found lost.
func (s *snapshots) replaced(h *snapshot.Holder) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost[h]
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
		s.current, s.lost[lost] = h, true
	}
	return h, nil
}

// replace takes another shared snapshot, unless the one there is lives after all, while no relation
// is copied yet. With oneMoment set the caller's cannot be replaced, and the error is ErrMoment.
func (s *snapshots) replace(ctx context.Context, oneMoment bool, cause error) error {
	h := s.shared()
	defer s.release(h)
	if err := h.Check(ctx); err == nil || !errors.Is(err, snapshot.ErrLost) {
		return err
	}
	if oneMoment {
		return retry.Permanent(fmt.Errorf("%w: %w", ErrMoment, cause))
	}
	next, err := s.fresh(ctx, h)
	if err == nil {
		s.release(next)
	}
	return err
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
	delete(s.marks, h)
	if h != s.callers {
		h.Close()
	}
}

// close releases everything except the caller's holder.
func (s *snapshots) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.users[s.current]++
	}
	for h := range s.users {
		if h != s.callers {
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
	for range retry.Every(ctx, keepAlive) {
		s.mu.Lock()
		for h := range s.users {
			_ = h.Check(ctx)
		}
		s.mu.Unlock()
	}
}
