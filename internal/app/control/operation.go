package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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

const (
	// streamEvery is the longest silence of a status stream.
	streamEvery = time.Second
	// streamPoll is how often the stream looks for a change of state: often enough to show the
	// steps of a cutover, which lasts some hundred milliseconds.
	streamPoll = 50 * time.Millisecond
	// streamWrite bounds the write of one line to a client that does not read.
	streamWrite = 10 * time.Second
)

// streamType is the content type of JSON lines. A client that accepts it is shown the
// steps of its cutover as they happen.
const streamType = "application/x-ndjson"

// CutoverLine is one line of a cutover that is streamed: a step, or its end, which is a
// report or an error.
type CutoverLine struct {
	Step   *Event         `json:"step,omitempty"`
	Report *CutoverReport `json:"report,omitempty"`
	Error  *Error         `json:"error,omitempty"`
}

// lines are an answer of JSON lines.
type lines struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func newLines(w http.ResponseWriter) lines {
	w.Header().Set("Content-Type", streamType)
	return lines{w, http.NewResponseController(w)}
}

// send sends one line, and reports whether the client takes it.
func (l lines) send(v any) bool {
	line, err := json.Marshal(v)
	if err != nil {
		line = []byte(`{"error":{"code":"internal","message":"the answer has no JSON form"}}`)
	}
	_ = l.control.SetWriteDeadline(time.Now().Add(streamWrite))
	_, err = l.w.Write(append(line, '\n'))
	return err == nil && l.control.Flush() == nil
}

// follow sends the steps of a cutover as they happen, and in the end its result. A client
// that leaves, or does not read, withdraws it.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, op *operation) {
	out := newLines(w)
	w.WriteHeader(http.StatusOK)
	if out.control.Flush() != nil { // the client learns that its request was taken
		s.left(op)
		return
	}
	for n := 0; ; {
		steps, more := op.since(n)
		for i := range steps {
			if !out.send(CutoverLine{Step: &steps[i]}) {
				s.left(op)
				return
			}
		}
		if n += len(steps); len(steps) > 0 {
			continue
		}
		select {
		case <-more:
		case <-r.Context().Done():
			s.left(op)
			return
		case <-op.done:
			if last, _ := op.since(n); len(last) > 0 {
				continue
			}
			l := CutoverLine{}
			if rep, ok := op.result.(CutoverReport); ok && op.err == nil {
				l.Report = &rep
			} else {
				l.Error = asError(op.err)
			}
			out.send(l)
			return
		}
	}
}

// state is the part of a status whose change is sent at once.
type state struct {
	phase, active string
	stream        string
	epoch         int64
	ready         bool
	blockers      int
	operation     string
}

func stateOf(s Status) state {
	st := state{phase: s.Phase, active: s.Active, stream: s.Replication.State, epoch: s.Epoch, ready: s.Ready, blockers: len(s.Blockers)}
	if s.Operation != nil {
		st.operation = s.Operation.Name
	}
	return st
}

// stream sends the status as JSON lines until the client or the daemon ends.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	st, err := s.now(r.Context())
	if err != nil {
		answerError(w, err)
		return
	}
	out := newLines(w)
	poll := time.NewTicker(streamPoll)
	defer poll.Stop()
	var sent time.Time
	var told state
	for {
		if now := stateOf(st); now != told || time.Since(sent) >= streamEvery {
			if !out.send(st) {
				return
			}
			told, sent = now, time.Now()
		}
		select {
		case <-r.Context().Done():
			return
		case <-s.done:
			return
		case <-poll.C:
		}
		if st, err = s.now(r.Context()); err != nil {
			return
		}
	}
}
