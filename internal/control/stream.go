package control

import (
	"encoding/json"
	"net/http"
	"time"
)

const (
	// streamEvery is the longest silence of a status stream.
	streamEvery = time.Second
	// streamPoll is how often the stream looks for a change of state: often
	// enough to show the steps of a cutover, which lasts some hundred
	// milliseconds.
	streamPoll = 50 * time.Millisecond
	// streamWrite bounds the write of one line to a client that does not read.
	streamWrite = 10 * time.Second
)

// state is the part of a status whose change is told at once.
type state struct {
	phase, active string
	epoch         int64
	ready         bool
	blockers      int
	operation     string
}

func stateOf(s Status) state {
	st := state{phase: s.Phase, active: s.Active, epoch: s.Epoch, ready: s.Ready, blockers: len(s.Blockers)}
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
	w.Header().Set("Content-Type", "application/x-ndjson")
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
