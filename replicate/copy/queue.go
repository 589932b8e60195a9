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
	taskBegin  kind = iota // record the snapshot under which it is copied, and cut it
	taskChunk              // copy one span of it
	taskRepair             // fetch again what changed since kept chunks landed
	taskBatch              // copy several small relations
)

// task is one step of a relation, or of a batch.
type task struct {
	rel   *relation
	gen   int
	kind  kind
	batch []*relation
	pass  *pass // of a chunk or a repair
	span  span  // of a chunk
	cause error // of a beginning: why the relation is begun again, nil at first

	since  time.Time // of the first passing failure
	tries  int
	resume time.Time // not before
}

// queue hands tasks to the workers: first the beginnings of relations that an
// earlier Run began and what is to be tried again, then the chunks of relations that
// were begun before those that were not, and of these the biggest first. Chunks
// are cut when they are handed out, so that their size can follow what was measured.
type queue struct {
	sizer *sizer

	mu       sync.Mutex
	urgent   []*task     // beginnings of an earlier Run's, restarts, repairs, and what is to be tried again
	cutting  []*relation // begun, with spans that are not cut yet
	tasks    []*task
	others   int64         // bytes of the relations in tasks
	open     int           // relations that are not copied yet
	resuming int           // relations that an earlier Run began, and this one has not yet
	wake     chan struct{} // closed and replaced at each change
}

// newQueue takes relations in the order in which they are to be begun, and
// batches, which come last.
func newQueue(z *sizer, rels []*relation, batches [][]*relation) *queue {
	q := &queue{sizer: z, wake: make(chan struct{})}
	for _, r := range rels {
		t := &task{rel: r, kind: taskBegin}
		q.open++
		if r.resumed {
			q.urgent = append(q.urgent, t)
			q.resuming++
			continue
		}
		q.tasks = append(q.tasks, t)
		q.others += r.size
	}
	for _, b := range batches {
		q.tasks = append(q.tasks, &task{kind: taskBatch, batch: b})
		q.open += len(b)
	}
	return q
}

func (q *queue) changed() {
	close(q.wake)
	q.wake = make(chan struct{})
}

// change changes the queue under its lock and wakes those that wait.
func (q *queue) change(how func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	how()
	q.changed()
}

// next waits for a task. It returns nil when every relation is copied or ctx has ended.
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
	q.urgent = slices.DeleteFunc(q.urgent, func(t *task) bool { return t.gen != t.rel.gen })
	wait := time.Hour
	for i, t := range q.urgent {
		if d := t.resume.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		q.urgent = slices.Delete(q.urgent, i, i+1)
		return t, 0
	}
	if len(q.cutting) > 0 {
		return q.chunk(q.cutting[0]), 0
	}
	if len(q.tasks) == 0 {
		return nil, wait
	}
	t := q.tasks[0]
	q.tasks = q.tasks[1:]
	if t.rel != nil {
		q.others -= t.rel.size
	}
	return t, 0
}

// chunk cuts the next chunk off a relation.
func (q *queue) chunk(r *relation) *task {
	f := r.cut.facts
	step := int64(1 << 62)
	if r.cut.ranges && f.blocks > 0 {
		left := int64(0)
		for _, s := range r.uncut {
			left += f.share(s)
		}
		perBlock := max(f.bytes/f.blocks, 1)
		step = q.sizer.chunk(left, q.others, len(r.uncut) == 1 && r.uncut[0].whole()) / perBlock
	}
	t := &task{rel: r, gen: r.gen, kind: taskChunk, pass: r.cut}
	t.span, r.uncut = cutOff(r.uncut, step, f.blocks)
	r.left++
	if len(r.uncut) == 0 {
		q.cutting = slices.DeleteFunc(q.cutting, func(x *relation) bool { return x == r })
	}
	return t
}

// begun queues chunks for the spans of a relation that have not landed. more is what must happen in
// addition, such as the collection of changed keys, before the relation is complete.
func (q *queue) begun(t *task, p *pass, spans []span, more int) {
	q.change(func() {
		t.rel.left, t.rel.uncut, t.rel.cut = more, spans, p
		if len(spans) > 0 {
			q.cutting = append(q.cutting, t.rel)
		}
	})
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

// settled waits until every relation of an earlier Run has been begun, or ctx has ended.
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
	q.change(func() { q.urgent = slices.Insert(q.urgent, 0, t) })
}

// split has the relations of a batch begun one by one.
func (q *queue) split(t *task) {
	q.change(func() {
		for _, r := range t.batch {
			q.urgent = append(q.urgent, &task{rel: r, gen: r.gen, kind: taskBegin})
		}
	})
}

// again lets a task that failed for a passing reason wait for a while.
func (q *queue) again(t *task, pause time.Duration) {
	q.change(func() {
		t.resume = time.Now().Add(pause)
		q.urgent = append(q.urgent, t)
	})
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
	t.rel.uncut = nil
	q.cutting = slices.DeleteFunc(q.cutting, func(r *relation) bool { return r == t.rel })
	q.urgent = slices.Insert(q.urgent, 0, &task{rel: t.rel, gen: t.rel.gen, kind: taskBegin, cause: cause})
	q.changed()
	return false
}

// stale reports whether the relation began again since the task was made.
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
	return t.rel.left == 0 && len(t.rel.uncut) == 0
}

// finished counts relations that are copied.
func (q *queue) finished(n int) { q.change(func() { q.open -= n }) }
