package control

import (
	"encoding/json"
	"net/http"
	"time"
)

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

// follow sends the steps of a cutover as they happen, and in the end its result. A client
// that leaves, or does not read, withdraws it.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, op *operation) {
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", streamType)
	w.WriteHeader(http.StatusOK)
	send := func(l CutoverLine) bool {
		line, err := json.Marshal(l)
		if err != nil {
			line = []byte(`{"error":{"code":"internal","message":"the answer has no JSON form"}}`)
		}
		_ = out.SetWriteDeadline(time.Now().Add(streamWrite))
		if _, err := w.Write(append(line, '\n')); err != nil {
			return false
		}
		return out.Flush() == nil
	}
	if out.Flush() != nil { // the client learns that its request was taken
		s.left(op)
		return
	}
	for n := 0; ; {
		steps, more := op.since(n)
		for i := range steps {
			if !send(CutoverLine{Step: &steps[i]}) {
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
			send(l)
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
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", streamType)
	poll := time.NewTicker(streamPoll)
	defer poll.Stop()
	var sent time.Time
	var told state
	for {
		if now := stateOf(st); now != told || time.Since(sent) >= streamEvery {
			line, err := json.Marshal(st)
			if err != nil {
				return
			}
			_ = out.SetWriteDeadline(time.Now().Add(streamWrite))
			if _, err := w.Write(append(line, '\n')); err != nil {
				return
			}
			if err := out.Flush(); err != nil {
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
