package copy

import (
	"context"
	"slices"
	"sync"
	"time"
)

// kind is what a task does for its relation.
type kind byte

const (
	taskBegin  kind = iota // record under what it is copied, and cut it
	taskChunk              // copy one span of it
	taskRepair             // fetch again what changed since kept chunks landed
)

// task is one step of a relation.
type task struct {
	rel   *relation
	gen   int
	kind  kind
	pass  *pass // of a chunk or a repair
	span  span  // of a chunk
	cause error // of a beginning: why the relation is begun again, nil at first

	since  time.Time // of the first passing failure
	tries  int
	resume time.Time // not before
}

// queue hands tasks to the workers: first the beginnings of relations that an
// earlier Run began, then the chunks of relations that were begun before those
// that were not, and of these the biggest first.
type queue struct {
	mu       sync.Mutex
	tasks    []*task
	open     int           // relations that are not copied yet
	resuming int           // relations that an earlier Run began, and this one has not yet
	wake     chan struct{} // closed and replaced at each change
}

func newQueue(rels []*relation) *queue {
	q := &queue{open: len(rels), wake: make(chan struct{})}
	for _, early := range []bool{true, false} {
		for _, r := range rels {
			if r.resumed == early {
				q.tasks = append(q.tasks, &task{rel: r, kind: taskBegin})
			}
			if early && r.resumed {
				q.resuming++
			}
		}
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

// begun puts the spans of a relation in front of everything but the relations
// that an earlier Run began. more is what must happen besides, such as the
// collection of changed keys, before the relation is complete.
func (q *queue) begun(t *task, p *pass, spans []span, more int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	chunks := make([]*task, len(spans))
	for i, s := range spans {
		chunks[i] = &task{rel: t.rel, gen: t.gen, kind: taskChunk, pass: p, span: s}
	}
	t.rel.left = len(spans) + more
	at := 0
	for at < len(q.tasks) && q.tasks[at].kind == taskBegin && q.tasks[at].rel.resumed {
		at++
	}
	q.tasks = slices.Insert(q.tasks, at, chunks...)
	q.changed()
}

// taken counts a relation of an earlier Run that this one has begun.
func (q *queue) taken(r *relation) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.resumed {
		r.resumed = false
		q.resuming--
		q.changed()
	}
}

// settled waits until every relation of an earlier Run has been begun, or ctx
// has ended.
func (q *queue) settled(ctx context.Context) {
	for ctx.Err() == nil {
		q.mu.Lock()
		left, wake := q.resuming, q.wake
		q.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-ctx.Done():
		case <-wake:
		}
	}
}

// push puts a task in front of everything.
func (q *queue) push(t *task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tasks = slices.Insert(q.tasks, 0, t)
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
// void and queues a new beginning. It does nothing for an older generation.
func (q *queue) restart(t *task, cause error) (stale bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.gen != t.rel.gen {
		return true
	}
	t.rel.gen++
	q.tasks = slices.Insert(q.tasks, 0, &task{rel: t.rel, gen: t.rel.gen, kind: taskBegin, cause: cause})
	q.changed()
	return false
}

// stale reports whether the relation began anew since the task was made.
func (q *queue) stale(t *task) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return t.gen != t.rel.gen
}

// landed counts a chunk, or what else begun was told of, calls count, and reports
// whether it was the last of its relation. It does nothing for an older generation.
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
