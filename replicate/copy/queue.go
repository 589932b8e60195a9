package copy

import (
	"context"
	"slices"
	"sync"
	"time"
)

// task is one step of a relation: its beginning, or one span of it.
type task struct {
	rel   *relation
	gen   int
	begin bool
	pass  *pass // of a span
	span  span

	since  time.Time // of the first passing failure
	tries  int
	resume time.Time // not before
}

// queue hands tasks to the workers: the chunks of relations that were begun
// before those that were not, and of these the biggest first.
type queue struct {
	mu    sync.Mutex
	tasks []*task
	open  int           // relations that are not copied yet
	wake  chan struct{} // closed and replaced at each change
}

func newQueue(rels []*relation) *queue {
	q := &queue{open: len(rels), wake: make(chan struct{})}
	for _, r := range rels {
		q.tasks = append(q.tasks, &task{rel: r, begin: true})
	}
	return q
}

func (q *queue) changed() {
	close(q.wake)
	q.wake = make(chan struct{})
}

// next waits for a task. It returns nil when every relation is copied or ctx
// has ended.
func (q *queue) next(ctx context.Context) *task {
	for {
		q.mu.Lock()
		if q.open == 0 {
			q.mu.Unlock()
			return nil
		}
		t, wait := q.pop(time.Now())
		wake := q.wake
		q.mu.Unlock()
		if t != nil {
			return t
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// pop takes the first task that is due, or says how long until one is.
func (q *queue) pop(now time.Time) (*task, time.Duration) {
	wait := time.Hour
	for i := 0; i < len(q.tasks); i++ {
		t := q.tasks[i]
		if t.gen != t.rel.gen {
			q.tasks = slices.Delete(q.tasks, i, i+1)
			i--
			continue
		}
		if d := t.resume.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		q.tasks = slices.Delete(q.tasks, i, i+1)
		return t, 0
	}
	return nil, wait
}

// begun puts the spans of a relation in front of everything else.
func (q *queue) begun(t *task, p *pass, spans []span) {
	q.mu.Lock()
	defer q.mu.Unlock()
	chunks := make([]*task, len(spans))
	for i, s := range spans {
		chunks[i] = &task{rel: t.rel, gen: t.gen, pass: p, span: s}
	}
	t.rel.left = len(spans)
	q.tasks = slices.Concat(chunks, q.tasks)
	q.changed()
}

// again puts a task that failed for a passing reason at the end.
func (q *queue) again(t *task, pause time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t.resume = time.Now().Add(pause)
	q.tasks = append(q.tasks, t)
	q.changed()
}

// restart makes everything that was queued or is under way for this generation
// void and queues a new beginning. It does nothing for an older generation. It
// returns how often the relation has been restarted.
func (q *queue) restart(t *task) (restarts int, stale bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.gen != t.rel.gen {
		return t.rel.restarts, true
	}
	t.rel.gen++
	t.rel.restarts++
	q.tasks = slices.Insert(q.tasks, 0, &task{rel: t.rel, gen: t.rel.gen, begin: true})
	q.changed()
	return t.rel.restarts, false
}

// stale reports whether the relation began anew since the task was made.
func (q *queue) stale(t *task) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return t.gen != t.rel.gen
}

// landed counts a chunk, calls count, and reports whether it was the last of its
// relation. It does nothing for an older generation.
func (q *queue) landed(t *task, count func()) (last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.gen != t.rel.gen {
		return false
	}
	count()
	t.rel.left--
	return t.rel.left == 0
}

// finished counts a relation that is copied.
func (q *queue) finished() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open--
	q.changed()
}
