package cutover

import (
	"sync"

	"crossfade/cutover/machine"
)

// message is one entry of the coordinator's inbox.
type message struct {
	event machine.Event
	keep  func(*account) // stores what a call returned in addition to its event; called only if the call is not late
	reply chan answer    // of a request
	show  func(Moment)   // of a request
	yield chan error     // of a LockWanted
	Call  *liveCall      // the call that has ended
}

// inbox is an unbounded queue: only our own calls and timers, and operators, post into it. Posting
// never blocks, so that ports may post from their own goroutines.
type inbox struct {
	ready chan struct{} // has a token when the queue is not empty

	mu struct {
		sync.Mutex
		queue []message
	}
}

func newInbox() *inbox { return &inbox{ready: make(chan struct{}, 1)} }

func (b *inbox) post(m message) {
	b.mu.Lock()
	b.mu.queue = append(b.mu.queue, m)
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

func (b *inbox) drain() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.mu.queue
	b.mu.queue = nil
	return q
}
