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
	fenced bool   // asked under the fence too: the clients wait, so it takes a few milliseconds
	apart  bool   // asked at the same time as the others while a cutover waits: it takes long
	early  bool   // asked for the status while rows are still copied too
	every  int    // asked in every so-manieth round of the status; 0 and 1 are every round
	// ask takes sessions of its own, with a bound on lock waits. An error says that
	// the question could not be answered, not that the answer is bad.
	ask func(ctx context.Context, source, target *pgx.Conn) ([]notice, error)
	// rest, if set, is how long the status leaves the question alone after an answer.
	rest func() time.Duration
	// askFenced, if set, is asked under the fence in the place of ask.
	askFenced func(ctx context.Context, source, target *pgx.Conn) ([]notice, error)
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
	found map[string][]notice  // by the watcher's name
	rests map[string]time.Time // until when the status does not ask again
}

func newWatchlist(source, target *link, log zerolog.Logger, watchers ...watcher) *watchlist {
	return &watchlist{source: source, target: target, watchers: watchers, log: log, found: map[string][]notice{}, rests: map[string]time.Time{}}
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
// asked before the target is whole. The first watcher whose session was lost ends the
// round: what was found before stays.
func (w *watchlist) look(ctx context.Context, copying bool) error {
	w.mu.Lock()
	round := w.round
	w.round++
	w.mu.Unlock()
	_, err := w.askThose(ctx, w.source, w.target, func(x watcher) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return (x.early || !copying) && (x.every <= 1 || round%x.every == 0) && time.Now().After(w.rests[x.name])
	}, false)
	return err
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
	err := source.do(ctx, func(ctx context.Context, source *pgx.Conn) error {
		return target.do(ctx, func(ctx context.Context, target *pgx.Conn) error {
			for _, x := range w.watchers {
				if !want(x) {
					continue
				}
				ask := x.ask
				if fenced && x.askFenced != nil {
					ask = x.askFenced
				}
				found, err := ask(ctx, source, target)
				w.letRest(x)
				if err != nil {
					err = fmt.Errorf("%s: %w", x.name, err)
					if passesByItself(ctx, err) {
						return err
					}
					found = []notice{{Blocker: control.Blocker{Code: "not_watched", Detail: err.Error(),
						Remedy: "remove the cause that the server names; crossfade run asks again by itself"}}}
				}
				w.keep(x.name, found)
				all = append(all, found...)
			}
			return nil
		})
	})
	return all, err
}

// passesByItself reports whether an unanswered question says nothing about the
// databases: a session was lost, a lock was held, time was up.
func passesByItself(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || pg.ConnectionLost(err) || passing(err) ||
		pg.IsCode(err, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected)
}

func (w *watchlist) letRest(x watcher) {
	if x.rest == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rests[x.name] = time.Now().Add(x.rest())
}

func (w *watchlist) keep(name string, found []notice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range found {
		if !slices.Contains(w.found[name], n) {
			w.log.Warn().Str("code", n.Code).Str("detail", n.Detail).Str("remedy", n.Remedy).Msg("found while watching")
		}
	}
	w.found[name] = found
}

// notices are those of the last answers, in the watchers' order.
func (w *watchlist) notices() []notice {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []notice
	for _, x := range w.watchers {
		all = append(all, w.found[x.name]...)
	}
	return all
}

// unanswered names a watcher that has no answer yet, "" for none: until then nobody
// knows whether a cutover would be refused.
func (w *watchlist) unanswered() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.watchers {
		if _, ok := w.found[x.name]; !ok {
			return x.name
		}
	}
	return ""
}

// notWatchedYet says that a watcher has no answer yet.
func notWatchedYet(name string) control.Blocker {
	return control.Blocker{Code: "not_watched_yet", Detail: "the databases have not been looked at yet since crossfade run was started: " + name,
		Remedy: "wait: that takes a few seconds once the copy is complete"}
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
	if name := w.unanswered(); name != "" && whole {
		found = append(found, notWatchedYet(name))
	}
	for _, n := range w.notices() {
		if !n.warns {
			found = append(found, n.Blocker)
		}
	}
	return found
}
