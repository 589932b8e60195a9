package scram

import (
	"context"
	"slices"
	"sync"
)

// turns hands out a bounded number of slots. Waiters queue by owner, and the owners are served one
// after the other, whatever the lengths of their queues.
type turns struct {
	mu     sync.Mutex
	free   int
	queues map[string][]chan struct{} // by owner; a closed channel means: your turn
	order  []string                   // owners that have a queue, the next one first
}

// take waits for a slot until ctx ends. Each take is followed by one give.
func (t *turns) take(ctx context.Context, owner string) error {
	t.mu.Lock()
	if t.free > 0 { // there are no waiters then
		t.free--
		t.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	if len(t.queues[owner]) == 0 {
		t.order = append(t.order, owner)
	}
	t.queues[owner] = append(t.queues[owner], turn)
	t.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	waiting := t.leave(owner, turn)
	t.mu.Unlock()
	if !waiting { // the turn came all the same: it is someone else's
		t.give()
	}
	return ctx.Err()
}

// leave takes a waiter out of its queue and reports whether it was there.
func (t *turns) leave(owner string, turn chan struct{}) bool {
	queue := t.queues[owner]
	at := slices.Index(queue, turn)
	if at < 0 {
		return false
	}
	if t.queues[owner] = slices.Delete(queue, at, at+1); len(t.queues[owner]) == 0 {
		delete(t.queues, owner)
		t.order = slices.DeleteFunc(t.order, func(name string) bool { return name == owner })
	}
	return true
}

// give passes a slot on to the owner whose turn it is.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.order) == 0 {
		t.free++
		return
	}
	owner := t.order[0]
	queue := t.queues[owner]
	t.order = t.order[1:]
	if len(queue) > 1 {
		t.queues[owner] = queue[1:]
		t.order = append(t.order, owner)
	} else {
		delete(t.queues, owner)
	}
	close(queue[0])
}
