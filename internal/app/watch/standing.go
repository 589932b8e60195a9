package watch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
)

const (
	// PollInterval is how often the state of databases is read for status.
	PollInterval = time.Second
	// roundPatience is how long a round of the status may start further watchers. Those that it
	// does not reach are the first of the next round.
	roundPatience = 5 * PollInterval
	// questionPatience bounds one question of the status at first, and mostQuestionPatience in the
	// end: one that was not answered in time gets twice as much, since there are long lines and
	// slow servers. It is what the monitor's other work has to wait at most.
	questionPatience     = 5 * PollInterval
	mostQuestionPatience = 20 * PollInterval
	// staleMisses is how many questions without an answer, one after another, make the answer
	// before too old to say that a cutover would be tried, and staleAge is how old it has to be as
	// well: a server that restarts, or a machine under load, misses a few.
	staleMisses = 3
	staleAge    = 10 * time.Second
	// restAfterScan is how many times as long as a scan of rows took the status waits before the
	// next one: it costs the source no more than a twentieth of a core (C13).
	restAfterScan = 20
)

// standing is the state of a watcher's question.
type standing struct {
	found    []Notice
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
func RestScan(took time.Duration) time.Duration { return restAfterScan * took }

// standing returns that of a watcher. The caller holds w.mu.
func (w *List) standing(name string) *standing {
	s := w.state[name]
	if s == nil {
		s = &standing{patience: questionPatience}
		w.state[name] = s
	}
	return s
}

// turn begins a round of the status and returns the watchers to ask, those first that have waited
// longest: a round that has no time for all of them leaves out others each time.
func (w *List) turn(copying bool) (round int, due []Watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	round = w.round
	w.round++
	for _, x := range w.watchers {
		if s := w.standing(x.Name); (x.Early || !copying) && s.due <= round && !time.Now().Before(s.rests) {
			due = append(due, x)
		}
	}
	slices.SortStableFunc(due, func(a, b Watcher) int {
		return cmp.Compare(w.state[a.Name].asked.UnixNano(), w.state[b.Name].asked.UnixNano())
	})
	return round, due
}

// beginQuestion returns how long a question of the status may take.
func (w *List) beginQuestion(name string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.standing(name)
	s.asked = time.Now()
	return s.patience
}

// endQuestion notes whether a question of the status was answered; late says that its time was up.
func (w *List) endQuestion(x Watcher, round int, err error, late bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.standing(x.Name)
	s.due = round + 1
	if err == nil {
		s.due = round + max(1, x.Every)
		return
	}
	s.misses++
	s.why = err
	if late {
		s.patience = min(2*s.patience, mostQuestionPatience)
	}
}

func (w *List) letRest(x Watcher, took time.Duration) {
	if x.Rest == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.standing(x.Name).rests = time.Now().Add(x.Rest(took))
}

// hearsay is the reporting state of a notice that is still valid.
type hearsay struct {
	since  time.Time
	logged bool
}

// keep remembers an answer.
func (w *List) keep(name string, found []Notice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, now := w.standing(name), time.Now()
	for _, n := range found {
		if _, stands := w.heard[n]; !stands {
			w.heard[n] = hearsay{since: now}
		}
	}
	s.found, s.answered, s.misses, s.why = found, now, 0, nil
}

// tell logs notices that are valid and have not been logged since they are, each cause once.
func (w *List) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	stands := map[Notice]bool{}
	var all []Notice
	for i, x := range w.watchers {
		for _, n := range w.standing(x.Name).found {
			stands[n] = true
			if n.Of == "" || w.askedSince(w.watchers[:i], w.heard[n].since) {
				all = append(all, n)
			}
		}
	}
	maps.DeleteFunc(w.heard, func(n Notice, _ hearsay) bool { return !stands[n] })
	for _, n := range toldOnce(all) {
		h := w.heard[n]
		if h.logged {
			continue
		}
		h.logged = true
		w.heard[n] = h
		event := w.log.Warn()
		if n.Usual {
			event = w.log.Info()
		}
		event.Str("code", n.Code).Str("detail", n.Detail).Str("remedy", n.Remedy).Msg("found while watching")
	}
}

// askedSince reports whether those that are asked in every round have answered since a moment: one
// of them may tell the same cause, and before the others. The caller holds w.mu.
func (w *List) askedSince(before []Watcher, moment time.Time) bool {
	return !slices.ContainsFunc(before, func(x Watcher) bool {
		return x.Every <= 1 && x.Rest == nil && !w.standing(x.Name).answered.After(moment)
	})
}

// notices returns those of the last answers, in the watchers' order, each cause once.
func (w *List) notices() []Notice {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []Notice
	for _, x := range w.watchers {
		all = append(all, w.standing(x.Name).found...)
	}
	return toldOnce(all)
}

// unanswered returns the first watcher that has no answer yet, or none that still counts: until
// then it is not known whether a cutover would be refused.
func (w *List) unanswered() (b control.Blocker, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.watchers {
		switch s := w.standing(x.Name); {
		case !s.stale():
			continue
		case s.answered.IsZero():
			return notWatchedYet(x.Name, s.why), true
		default:
			return control.Blocker{Code: "not_watched_yet",
				Detail: fmt.Sprintf("it is not known what has changed since %s: %v", s.answered.UTC().Format("15:04:05 UTC"), s.why),
				Remedy: askedAgain(s.why, "wait: crossfade run asks again by itself; where it stays so, remove the cause that is named")}, true
		}
	}
	return control.Blocker{}, false
}

// notWatchedYet says that a watcher has no answer yet, and why, where it was asked already.
func notWatchedYet(name string, why error) control.Blocker {
	detail := "what a cutover depends on has not been looked at yet: " + name
	if why != nil {
		detail = "what a cutover depends on has not been looked at yet: " + why.Error()
	}
	return control.Blocker{Code: "not_watched_yet", Detail: detail, Remedy: askedAgain(why, "wait: that takes a few seconds once the copy is complete")}
}

// askedAgain is the remedy of a question without an answer: that of the lock that it ended at, else
// what otherwise says.
func askedAgain(why error, otherwise string) string {
	if remedy := dbconn.LockRemedy(why); remedy != "" {
		return remedy + "; crossfade run asks again by itself"
	}
	return otherwise
}
