package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/control"
	"crossfade/internal/pg"
)

// notice is what a watcher found: a reason to refuse a cutover or, where warns is
// set, something that the operator should know and that stops nothing.
type notice struct {
	control.Blocker
	warns bool
}

// watcher asks the databases a question whose answer may change while the run
// follows: every pollInterval for the status, once more while a cutover is armed
// and, where fenced is set, under the fence.
type watcher struct {
	name   string // in logs and in the notice of a question that got no answer
	fenced bool   // asked under the fence too, where the clients wait
	apart  bool   // asked at the same time as the others while a cutover waits: it takes long
	early  bool   // asked for the status while rows are still copied too
	every  int    // asked in every so-manieth round of the status; 0 and 1 are every round
	// ask takes sessions of its own, with a bound on lock waits. An error says that
	// the question could not be answered, not that the answer is bad.
	ask func(ctx context.Context, source, target *pgx.Conn) ([]notice, error)
	// rest, if set, is how long the status leaves the question alone after one that took so long.
	rest func(took time.Duration) time.Duration
	// askArming, if set, is asked while a cutover is armed in the place of ask, and askFenced under
	// the fence.
	askArming func(ctx context.Context, source, target *pgx.Conn) ([]notice, error)
	askFenced func(ctx context.Context, source, target *pgx.Conn) ([]notice, error)
}

type question = func(ctx context.Context, source, target *pgx.Conn) ([]notice, error)

// confirms is the question for a cutover that is armed or, with fenced, under the fence.
func (x watcher) confirms(fenced bool) question {
	switch {
	case fenced && x.askFenced != nil:
		return x.askFenced
	case !fenced && x.askArming != nil:
		return x.askArming
	}
	return x.ask
}

// watchlist asks all watchers and remembers what they found. It is safe for
// concurrent use; its links serialise the questions.
type watchlist struct {
	source, target *link
	// besides are further sessions, of source and target, for the questions that are asked
	// at the same time as the others while a cutover waits for them; none for no such.
	besides  [2]*link
	watchers []watcher
	log      zerolog.Logger

	mu    sync.Mutex
	round int
	state map[string]*standing // by the watcher's name
}

func newWatchlist(source, target *link, log zerolog.Logger, watchers ...watcher) *watchlist {
	return &watchlist{source: source, target: target, watchers: watchers, log: log, state: map[string]*standing{}}
}

// WatchedError says why a cutover would be refused, by what was found just now.
type WatchedError struct{ Blockers []control.Blocker }

func (e *WatchedError) Error() string {
	reasons := make([]string, 0, len(e.Blockers))
	for _, b := range e.Blockers[:min(len(e.Blockers), mostReasons)] {
		reasons = append(reasons, b.Detail+" ("+b.Remedy+")")
	}
	if more := len(e.Blockers) - mostReasons; more > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more, which crossfade status names", more))
	}
	return strings.Join(reasons, "; ")
}

// look asks the watchers whose turn it is, for the status; with copying, those that are
// asked before the target is whole. A question without an answer leaves what was found before, and
// the others have their turn; one for which there is no session ends the round.
func (w *watchlist) look(ctx context.Context, copying bool) error {
	var misses []error
	round, due := w.turn(copying)
	end := time.Now().Add(roundPatience)
	for i, x := range due {
		if i > 0 && time.Now().After(end) {
			break
		}
		bounded, cancel := context.WithTimeout(ctx, w.beginQuestion(x.name))
		_, reached, err := w.askOne(bounded, w.source, w.target, x, x.ask)
		late := bounded.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.endQuestion(x, round, err, late && reached)
		if err == nil {
			continue
		}
		misses = append(misses, err)
		if !reached {
			for _, other := range due[i+1:] {
				w.endQuestion(other, round, err, false)
			}
			break
		}
	}
	return errors.Join(misses...)
}

// confirm asks while a cutover is armed or, with fenced, under the fence. It returns
// a *WatchedError for what stops the cutover, and any other error for a question
// that got no answer, which stops it too.
func (w *watchlist) confirm(ctx context.Context, fenced bool) error {
	var found, more []notice
	group, ctx := errgroup.WithContext(ctx)
	apart := func(x watcher) bool { return x.apart && w.besides[0] != nil }
	group.Go(func() (err error) {
		found, err = w.askThose(ctx, w.source, w.target, func(x watcher) bool { return (x.fenced || !fenced) && !apart(x) }, fenced)
		return err
	})
	if w.besides[0] != nil {
		group.Go(func() (err error) {
			more, err = w.askThose(ctx, w.besides[0], w.besides[1], func(x watcher) bool { return (x.fenced || !fenced) && apart(x) }, fenced)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	found = append(found, more...)
	if found = slices.DeleteFunc(found, func(n notice) bool { return n.warns }); len(found) == 0 {
		return nil
	}
	stops := &WatchedError{}
	for _, n := range found {
		stops.Blockers = append(stops.Blockers, n.Blocker)
	}
	return stops
}

// apart refuses two names of one database.
func (w *watchlist) apart(ctx context.Context) error {
	return w.source.do(ctx, func(ctx context.Context, source *pgx.Conn) error {
		return w.target.do(ctx, func(ctx context.Context, target *pgx.Conn) error {
			return pg.RefuseOneDatabase(ctx, source, target)
		})
	})
}

// askThose asks those that want selects, and returns what they found.
func (w *watchlist) askThose(ctx context.Context, source, target *link, want func(watcher) bool, fenced bool) ([]notice, error) {
	var all []notice
	for _, x := range w.watchers {
		if !want(x) {
			continue
		}
		found, _, err := w.askOne(ctx, source, target, x, x.confirms(fenced))
		if err != nil {
			return all, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// askOne asks a watcher and keeps what it found. reached is false where there was no session to
// ask with. An error is a question without an answer, which may have one the next time.
func (w *watchlist) askOne(ctx context.Context, source, target *link, x watcher, ask question) (found []notice, reached bool, err error) {
	err = source.do(ctx, func(ctx context.Context, source *pgx.Conn) error {
		return target.do(ctx, func(ctx context.Context, target *pgx.Conn) (err error) {
			reached = true
			begin := time.Now()
			found, err = ask(ctx, source, target)
			w.letRest(x, time.Since(begin))
			return err
		})
	})
	if err != nil {
		err = fmt.Errorf("%s: %w", x.name, err)
		if !reached || passesByItself(ctx, err) {
			return nil, reached, err
		}
		found = []notice{{Blocker: control.Blocker{Code: "not_watched", Detail: err.Error(),
			Remedy: "remove the cause that the server names; crossfade run asks again by itself"}}}
	}
	w.keep(x.name, found)
	return found, true, nil
}

// passesByItself reports whether an unanswered question says nothing about the
// databases: a session was lost, a lock was held, time was up.
func passesByItself(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || pg.ConnectionLost(err) || passing(err) ||
		pg.IsCode(err, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected)
}

// status adds the warnings of what was found, while the source is active.
func (w *watchlist) status(s *control.Status) {
	for _, n := range w.notices() {
		if n.warns {
			s.Warnings = append(s.Warnings, n.Blocker)
		}
	}
}

// blocked is why a cutover asked for now would be refused, none for nothing. Before the
// target is whole, that nobody has looked yet is no reason: the phase is.
func (w *watchlist) blocked(whole bool) []control.Blocker {
	var found []control.Blocker
	if b, none := w.unanswered(); none && whole {
		found = append(found, b)
	}
	for _, n := range w.notices() {
		if !n.warns {
			found = append(found, n.Blocker)
		}
	}
	return found
}
