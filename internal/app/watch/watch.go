package watch

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

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/onedatabase"
	"crossfade/internal/base/pg"
	"crossfade/replicate/slot"
	"crossfade/replicate/snapshot"
)

// Notice is what a watcher found: a reason to refuse a cutover or, where warns is
// set, something that the operator should know and that stops nothing.
type Notice struct {
	control.Blocker
	Warns bool
	Usual bool // it is so in a run that nothing is wrong with, and no warning in the log
	// Of names what the notice is about, where several watchers may find something of it; "" where
	// none does.
	Of string
}

// toldOnce leaves out what follows from an earlier notice: one about the same thing with another
// code, or with the same remedy. The earlier one refuses a cutover for as long as it is valid.
func toldOnce(all []Notice) []Notice {
	var out []Notice
	for _, n := range all {
		if n.Of == "" || !slices.ContainsFunc(out, func(o Notice) bool {
			return o.Of == n.Of && o.Warns == n.Warns && (o.Code != n.Code || o.Remedy == n.Remedy)
		}) {
			out = append(out, n)
		}
	}
	return out
}

// Watcher asks the databases a question whose answer may change while the run
// follows: every PollInterval for the status, once more while a cutover is armed
// and, where Fenced is set, under the fence.
type Watcher struct {
	Name   string // in logs and in the notice of a question that got no answer
	Fenced bool   // asked under the fence too, where the clients wait
	Apart  bool   // asked at the same time as the others while a cutover waits: it takes long
	Early  bool   // asked for the status while rows are still copied too
	Every  int    // asked in one of so many rounds of the status; 0 and 1 are every round
	// Ask takes sessions of its own, with a bound on lock waits. An error says that
	// the question could not be answered, not that the answer is bad.
	Ask func(ctx context.Context, source, target *pgx.Conn) ([]Notice, error)
	// Rest, if set, is how long the status leaves the question alone after one that took so long.
	Rest func(took time.Duration) time.Duration
	// AskArming, if set, is asked while a cutover is armed in the place of Ask, and AskFenced under
	// the fence.
	AskArming func(ctx context.Context, source, target *pgx.Conn) ([]Notice, error)
	AskFenced func(ctx context.Context, source, target *pgx.Conn) ([]Notice, error)
}

type question = func(ctx context.Context, source, target *pgx.Conn) ([]Notice, error)

// confirms is the question for a cutover that is armed or, with fenced, under the fence.
func (x Watcher) confirms(fenced bool) question {
	switch {
	case fenced && x.AskFenced != nil:
		return x.AskFenced
	case !fenced && x.AskArming != nil:
		return x.AskArming
	}
	return x.Ask
}

// List asks all watchers and remembers what they found. It is safe for
// concurrent use; its links serialise the questions.
type List struct {
	source, target *dbconn.Link
	// Parallel are further sessions, of source and target, for the questions that are asked
	// at the same time as the others while a cutover waits for them; none for no such.
	Parallel [2]*dbconn.Link
	// Guards are sessions that see who holds a lock that a question waits for; none for no such.
	Guards   [2]*dbconn.Link
	watchers []Watcher
	log      zerolog.Logger

	mu    sync.Mutex
	round int
	state map[string]*standing // by the watcher's name
	heard map[Notice]hearsay   // what is valid now
}

// New returns a list that asks through these links. Callers that ask while a cutover waits may give
// it further ones, in Parallel and Guards.
func New(source, target *dbconn.Link, log zerolog.Logger, watchers ...Watcher) *List {
	return &List{source: source, target: target, watchers: watchers, log: log, state: map[string]*standing{}, heard: map[Notice]hearsay{}}
}

// MostReasons bounds how many reasons the line of a refusal tells; its list has them all.
const MostReasons = 5

// MostChanges bounds how many changes are reported one by one.
const MostChanges = 20

// WatchedError says why a cutover would be refused, by what was found just now.
type WatchedError struct{ Blockers []control.Blocker }

func (e *WatchedError) Error() string {
	reasons := lists.Map(e.Blockers[:min(len(e.Blockers), MostReasons)], func(b control.Blocker) string { return b.Detail + " (" + b.Remedy + ")" })
	if more := len(e.Blockers) - MostReasons; more > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more, which crossfade status names", more))
	}
	return strings.Join(reasons, "; ")
}

// Poll asks the watchers whose turn it is, for the status; with copying, those that are
// asked before the target is whole. A question without an answer leaves what was found before, and
// the others have their turn; one for which there is no session ends the round.
func (w *List) Poll(ctx context.Context, copying bool) error {
	defer w.tell()
	var misses []error
	round, due := w.turn(copying)
	end := time.Now().Add(roundPatience)
	for i, x := range due {
		if i > 0 && time.Now().After(end) {
			break
		}
		bounded, cancel := context.WithTimeout(ctx, w.beginQuestion(x.Name))
		_, reached, err := w.askOne(bounded, w.source, w.target, x, x.Ask)
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

// Confirm asks while a cutover is armed or, with fenced, under the fence. It returns
// a *WatchedError for what stops the cutover, and any other error for a question
// that got no answer, which stops it too.
func (w *List) Confirm(ctx context.Context, fenced bool) error {
	defer w.tell()
	var found, more []Notice
	group, ctx := errgroup.WithContext(ctx)
	apart := func(x Watcher) bool { return x.Apart && w.Parallel[0] != nil }
	group.Go(func() (err error) {
		found, err = w.askThose(ctx, w.source, w.target, func(x Watcher) bool { return (x.Fenced || !fenced) && !apart(x) }, fenced)
		return err
	})
	if w.Parallel[0] != nil {
		group.Go(func() (err error) {
			more, err = w.askThose(ctx, w.Parallel[0], w.Parallel[1], func(x Watcher) bool { return (x.Fenced || !fenced) && apart(x) }, fenced)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	found = append(found, more...)
	if found = toldOnce(slices.DeleteFunc(found, func(n Notice) bool { return n.Warns })); len(found) == 0 {
		return nil
	}
	return &WatchedError{lists.Map(found, func(n Notice) control.Blocker { return n.Blocker })}
}

// Apart refuses two names of one database.
func (w *List) Apart(ctx context.Context) error {
	return w.source.Do(ctx, func(ctx context.Context, source *pgx.Conn) error {
		return w.target.Do(ctx, func(ctx context.Context, target *pgx.Conn) error {
			return onedatabase.Refuse(ctx, source, target)
		})
	})
}

// askThose asks those that want selects, and returns what they found.
func (w *List) askThose(ctx context.Context, source, target *dbconn.Link, want func(Watcher) bool, fenced bool) ([]Notice, error) {
	var all []Notice
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
func (w *List) askOne(ctx context.Context, source, target *dbconn.Link, x Watcher, ask question) (found []Notice, reached bool, err error) {
	links := [2]*dbconn.Link{source, target}
	side := dbconn.SideNames[0] // that gives no session
	err = source.Do(ctx, func(ctx context.Context, source *pgx.Conn) error {
		side = dbconn.SideNames[1]
		return target.Do(ctx, func(ctx context.Context, target *pgx.Conn) (err error) {
			reached = true
			begin := time.Now()
			err = dbconn.NameHolders(ctx, links, w.Guards, func() (err error) {
				found, err = ask(ctx, source, target)
				return err
			})
			w.letRest(x, time.Since(begin))
			return err
		})
	})
	if err != nil {
		if !reached {
			err = fmt.Errorf("the %s cannot be asked: %w", side, err)
		}
		err = fmt.Errorf("%s: %w", x.Name, err)
		if !reached || PassesByItself(ctx, err) {
			return nil, reached, err
		}
		found = []Notice{{Blocker: control.Blocker{Code: "not_watched", Detail: err.Error(),
			Remedy: "remove the cause that the server names; crossfade run asks again by itself"}}}
	}
	w.keep(x.Name, found)
	return found, true, nil
}

// PassesByItself reports whether an unanswered question says nothing about the
// databases: a session was lost, a lock was held, time was up.
func PassesByItself(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*dbconn.LockedError)) || pg.ConnectionLost(err) || Passing(err) ||
		pg.IsCode(err, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected)
}

// Status adds the warnings of what was found, while the source is active.
func (w *List) Status(s *control.Status) {
	for _, n := range w.notices() {
		if n.Warns {
			s.Warnings = append(s.Warnings, n.Blocker)
		}
	}
}

// Blocked says why a cutover asked for now would be refused, none for nothing. Before the target is
// complete, that a question has not been asked yet is no reason: the phase is.
func (w *List) Blocked(whole bool) []control.Blocker {
	var found []control.Blocker
	if b, none := w.unanswered(); none && whole {
		found = append(found, b)
	}
	for _, n := range w.notices() {
		if !n.Warns {
			found = append(found, n.Blocker)
		}
	}
	return found
}

// Passing reports whether an error of the migration may be gone at the next
// attempt: a database was away.
func Passing(err error) bool {
	if pg.ConnectionLost(err) || snapshot.Passing(err) || errors.Is(err, snapshot.ErrLost) {
		return true
	}
	if errors.As(err, new(*slot.BlockedError)) { // status names the transactions
		return true
	}
	return strings.HasPrefix(pg.Code(err), "57") // operator intervention
}

// Remedies that several watchers have.
const (
	// StartOver is the remedy for changes that the target will never get.
	StartOver = "start over: stop crossfade run, crossfade clean, crossfade run"
	// GoOnRun is the remedy for what a run reads only when it starts.
	GoOnRun = "stop crossfade run and start it again"
)
