package control

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// operations runs one operation at a time.
type operations struct {
	ctx context.Context // of Run: what operations live in

	mu struct {
		sync.Mutex
		running *operation
		stopped bool
	}
	all sync.WaitGroup
}

// operation is one that runs or has ended. result and err may be read once done
// is closed.
type operation struct {
	Operation
	done   chan struct{}
	result any
	err    error
}

// start runs f in a goroutine of its own, unless another operation runs.
func (o *operations) start(name string, f func(context.Context) (any, error)) (*operation, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.stopped {
		return nil, &Error{Code: CodeStopping, Message: "the daemon is stopping", Remedy: "ask again when it has been started"}
	}
	if r := o.mu.running; r != nil {
		return nil, &Error{Code: CodeBusy,
			Message: fmt.Sprintf("a %s is running since %s", r.Name, r.Started.UTC().Format(time.RFC3339)),
			Remedy:  "wait for its end: crossfade status shows it"}
	}
	op := &operation{Operation: Operation{Name: name, Started: time.Now()}, done: make(chan struct{})}
	o.mu.running = op
	o.all.Go(func() {
		op.result, op.err = f(o.ctx)
		o.mu.Lock()
		o.mu.running = nil
		o.mu.Unlock()
		close(op.done)
	})
	return op, nil
}

// current returns the operation that runs, or nil.
func (o *operations) current() *Operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.running == nil {
		return nil
	}
	op := o.mu.running.Operation
	return &op
}

// stop lets no new operation begin and waits for the one that runs.
func (o *operations) stop() {
	o.mu.Lock()
	o.mu.stopped = true
	o.mu.Unlock()
	o.all.Wait()
}
