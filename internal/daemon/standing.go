package daemon

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"crossfade/internal/control"
)

const (
	// roundPatience is how long a round of the status goes on to the next watcher. Those that it does
	// not come to are the first of the next round.
	roundPatience = 5 * pollInterval
	// questionPatience bounds one question of the status at first, and mostQuestionPatience in the
	// end: one that was not answered in time gets twice as much, since there are long lines and slow
	// servers. It is what the monitor's other work has to wait at most.
	questionPatience     = 5 * pollInterval
	mostQuestionPatience = 20 * pollInterval
	// staleMisses is how many questions without an answer, one after another, make the answer before
	// too old to say that a cutover would be tried, and staleAge is how old it has to be as well: a
	// server that restarts, or a machine under load, misses a few.
	staleMisses = 3
	staleAge    = 10 * time.Second
	// restAfterScan is how many times as long as a look through rows took it is not repeated
	// for the status: it costs the source no more than a twentieth of a core (C13).
	restAfterScan = 20
)

// standing is how a watcher's question stands.
type standing struct {
	found    []notice
	answered time.Time // of the last answer, zero for none yet
	misses   int       // questions without an answer since
	why      error     // of the last miss
	asked    time.Time // last for the status
	due      int       // round from which it is asked again
	rests    time.Time // until when it is not asked
	patience time.Duration
}

// stale reports whether the last answer tells nothing about now.
func (s *standing) stale() bool {
	return s.answered.IsZero() || s.misses >= staleMisses && time.Since(s.answered) > staleAge
}

// rest is how long to leave a scan alone that took so long.
func restScan(took time.Duration) time.Duration { return restAfterScan * took }

// standing returns that of a watcher. The caller holds w.mu.
func (w *watchlist) standing(name string) *standing {
	s := w.state[name]
	if s == nil {
		s = &standing{patience: questionPatience}
		w.state[name] = s
	}
	return s
}

// turn begins a round of the status and returns the watchers to ask, those first that have waited
// longest: a round that has no time for all of them leaves out others each time.
func (w *watchlist) turn(copying bool) (round int, due []watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	round = w.round
	w.round++
	for _, x := range w.watchers {
		if s := w.standing(x.name); (x.early || !copying) && s.due <= round && !time.Now().Before(s.rests) {
			due = append(due, x)
		}
	}
	slices.SortStableFunc(due, func(a, b watcher) int {
		return cmp.Compare(w.state[a.name].asked.UnixNano(), w.state[b.name].asked.UnixNano())
	})
	return round, due
}

// beginQuestion returns how long a question of the status may take.
func (w *watchlist) beginQuestion(name string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.standing(name)
	s.asked = time.Now()
	return s.patience
}

// endQuestion notes whether a question of the status was answered; late says that its time was up.
func (w *watchlist) endQuestion(x watcher, round int, err error, late bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.standing(x.name)
	s.due = round + 1
	if err == nil {
		s.due = round + max(1, x.every)
		return
	}
	s.misses++
	s.why = err
	if late {
		s.patience = min(2*s.patience, mostQuestionPatience)
	}
}

func (w *watchlist) letRest(x watcher, took time.Duration) {
	if x.rest == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.standing(x.name).rests = time.Now().Add(x.rest(took))
}

// keep remembers an answer, and logs what it says that the one before did not.
func (w *watchlist) keep(name string, found []notice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.standing(name)
	for _, n := range found {
		if !slices.Contains(s.found, n) {
			w.log.Warn().Str("code", n.Code).Str("detail", n.Detail).Str("remedy", n.Remedy).Msg("found while watching")
		}
	}
	s.found, s.answered, s.misses, s.why = found, time.Now(), 0, nil
}

// notices are those of the last answers, in the watchers' order.
func (w *watchlist) notices() []notice {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []notice
	for _, x := range w.watchers {
		all = append(all, w.standing(x.name).found...)
	}
	return all
}

// unanswered tells of the first watcher that has no answer yet, or none that still counts: until then
// nobody knows whether a cutover would be refused.
func (w *watchlist) unanswered() (b control.Blocker, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.watchers {
		switch s := w.standing(x.name); {
		case !s.stale():
			continue
		case s.answered.IsZero():
			return notWatchedYet(x.name, s.why), true
		default:
			return control.Blocker{Code: "not_watched_yet",
				Detail: fmt.Sprintf("nobody knows what has changed since %s: %v", s.answered.UTC().Format("15:04:05 UTC"), s.why),
				Remedy: "wait: crossfade run asks again by itself; where it stays so, remove the cause that is named"}, true
		}
	}
	return control.Blocker{}, false
}

// notWatchedYet says that a watcher has no answer yet, and why, where it was asked already.
func notWatchedYet(name string, why error) control.Blocker {
	detail := "the databases have not been looked at yet since crossfade run was started: " + name
	if why != nil {
		detail = "the databases have not been looked at yet since crossfade run was started: " + why.Error()
	}
	return control.Blocker{Code: "not_watched_yet", Detail: detail, Remedy: "wait: that takes a few seconds once the copy is complete"}
}
