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

// operation is one that runs or has ended. result and err may be read once done is closed.
type operation struct {
	Operation
	cancel context.CancelCauseFunc // ends what f runs in; nil where it cannot be withdrawn
	done   chan struct{}
	result any
	err    error

	steps struct {
		sync.Mutex
		list []Event
		more chan struct{} // closed when the list has grown
	}
}

// remedy is for a caller that asks for another one.
func (o *operation) remedy() string {
	if o.cancel != nil {
		return "wait for its end, which crossfade status shows, or take it back with crossfade cutover --cancel"
	}
	return "wait for its end: crossfade status shows it"
}

// show adds a step. It does not block.
func (o *operation) show(e Event) {
	o.steps.Lock()
	defer o.steps.Unlock()
	o.steps.list = append(o.steps.list, e)
	close(o.steps.more)
	o.steps.more = make(chan struct{})
}

// since returns the steps after the first n, and what is closed when there are more.
func (o *operation) since(n int) ([]Event, <-chan struct{}) {
	o.steps.Lock()
	defer o.steps.Unlock()
	return o.steps.list[n:len(o.steps.list):len(o.steps.list)], o.steps.more
}

// start runs f in a goroutine of its own, unless another operation runs. It may be
// withdrawn, by the end of f's context, or not.
func (o *operations) start(name string, withdrawable bool, f func(context.Context, *operation) (any, error)) (*operation, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.stopped {
		return nil, &Error{Code: CodeStopping, Message: "the daemon is stopping", Remedy: "ask again when it has been started"}
	}
	if r := o.mu.running; r != nil {
		return nil, &Error{Code: CodeBusy,
			Message: fmt.Sprintf("a %s is running since %s", r.Name, r.Started.UTC().Format(time.RFC3339)),
			Remedy:  r.remedy()}
	}
	op := &operation{Operation: Operation{Name: name, Started: time.Now()}, done: make(chan struct{})}
	op.steps.more = make(chan struct{})
	ctx, cancel := context.WithCancelCause(o.ctx)
	if withdrawable {
		op.cancel = cancel
	}
	o.mu.running = op
	o.all.Go(func() {
		defer cancel(nil)
		op.result, op.err = f(ctx, op)
		o.mu.Lock()
		o.mu.running = nil
		o.mu.Unlock()
		close(op.done)
	})
	return op, nil
}

// withdrawable returns the operation of this name that runs and may be withdrawn, or nil.
func (o *operations) withdrawable(name string) *operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	if op := o.mu.running; op != nil && op.Name == name && op.cancel != nil {
		return op
	}
	return nil
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
