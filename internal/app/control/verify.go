package control

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"crossfade/internal/app/exit"
	"crossfade/internal/base/lists"
)

// Outcomes of a comparison, and verdicts on what it compares.
const (
	Equal       = "equal"
	Different   = "different"
	NotProvable = "not_provable" // such as a table that was rewritten whenever it was compared
)

// VerifyInterrupted is the state of a comparison that was begun and not completed: what it has
// compared is kept, and the next request continues it.
const VerifyInterrupted = "interrupted"

// VerifyReport is the result of a comparison of both sides that was completed.
type VerifyReport struct {
	Outcome     string             `json:"outcome"`        // equal, different or not_provable
	Begun       time.Time          `json:"begun,omitzero"` // not known of the comparison after a switch
	Ended       time.Time          `json:"ended,omitzero"`
	Tables      int                `json:"tables"` // compared, row by row
	Sequences   int                `json:"sequences"`
	Differences []VerifyDifference `json:"differences"` // what is not equal; never null
}

// VerifyDifference is one thing that is not equal on both sides, or not provable.
type VerifyDifference struct {
	Kind    string   `json:"kind"` // table, sequence or definition
	Name    string   `json:"name"`
	Verdict string   `json:"verdict"` // different or not_provable
	Reason  string   `json:"reason"`
	Keys    []string `json:"keys,omitempty"` // of rows that differ, each with what is wrong with it
}

// MarshalJSON writes an empty list as [].
func (r VerifyReport) MarshalJSON() ([]byte, error) {
	type plain VerifyReport
	r.Differences = lists.NotNil(r.Differences)
	return json.Marshal(plain(r))
}

// Judge sets the outcome by what is not equal.
func (r *VerifyReport) Judge() {
	r.Outcome = Equal
	for _, d := range r.Differences {
		if d.Verdict == Different {
			r.Outcome = Different
			return
		}
		r.Outcome = NotProvable
	}
}

// ExitCode is the program's exit status for the report.
func (r VerifyReport) ExitCode() int {
	switch r.Outcome {
	case Equal:
		return exit.CodeDone
	case Different:
		return exit.CodeRefused
	default:
		return exit.CodeNotComplete
	}
}

// VerifyLine is one line of a comparison that is streamed: how far it is, or its end, which is a
// report or an error.
type VerifyLine struct {
	Progress *Verify       `json:"progress,omitempty"`
	Report   *VerifyReport `json:"report,omitempty"`
	Error    *Error        `json:"error,omitempty"`
}

// verify answers when the comparison has ended. A client that goes away stops nothing.
func (s *Server) verify(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody)) // so that the client's leaving is noticed
	type answer struct {
		report VerifyReport
		err    error
	}
	waiting, leave := context.WithCancel(r.Context())
	defer leave()
	defer context.AfterFunc(s.ops.ctx, leave)()
	done := make(chan answer, 1)
	go func() {
		report, err := s.cfg.Daemon.Verify(waiting)
		done <- answer{report, err}
	}()
	end := func(a answer) VerifyLine {
		if a.err != nil && s.ops.ctx.Err() != nil {
			a.err = &Error{Code: CodeStopping, Message: "the daemon is stopping", Remedy: "ask again when it has been started: what was compared is kept"}
		}
		if a.err != nil {
			return VerifyLine{Error: asError(a.err)}
		}
		return VerifyLine{Report: &a.report}
	}
	if r.Header.Get("Accept") != streamType {
		switch l := end(<-done); {
		case l.Error != nil:
			answerError(w, l.Error)
		default:
			answerWith(w, *l.Report)
		}
		return
	}
	var out lines
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	for begun := false; ; {
		var a answer
		ended := false
		select {
		case a = <-done:
			ended = true
		case <-tick.C:
		}
		l := VerifyLine{}
		switch {
		case ended && a.err != nil && !begun: // a refusal has its own HTTP status
			answerError(w, end(a).Error)
			return
		case ended:
			l = end(a)
		default:
			st, err := s.now(waiting)
			if err != nil {
				continue
			}
			l.Progress = &st.Verify
		}
		if !begun {
			out = newLines(w)
			w.WriteHeader(http.StatusOK)
			begun = true
		}
		if !out.send(l) && !ended {
			leave()
			<-done
			return
		}
		if ended {
			return
		}
	}
}

func answerWith(w http.ResponseWriter, v any) { answer(w, http.StatusOK, v) }

func (s *Server) lastVerify(http.ResponseWriter, *http.Request) (any, error) {
	r := s.cfg.Daemon.LastVerify()
	if r == nil {
		return nil, &Error{Code: CodeNotFound, Message: "no comparison was completed", Remedy: "start one with crossfade verify"}
	}
	return *r, nil
}

func (s *Server) stopVerify(_ http.ResponseWriter, r *http.Request) (any, error) {
	return struct{}{}, s.cfg.Daemon.StopVerify(r.Context())
}
