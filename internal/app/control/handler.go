package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"crossfade/internal/base/lists"
)

const (
	// prefix is the version of the paths.
	prefix = "/v1"
	// maxBody bounds a request: options are a handful of fields.
	maxBody = 64 << 10
	// statusTimeout bounds one answer of the daemon that should come from memory.
	statusTimeout = 5 * time.Second
)

// handler serves the socket: everything.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	s.reading(mux)
	mux.HandleFunc("GET "+prefix+"/sessions", asked(s.sessions))
	mux.HandleFunc("GET "+prefix+"/cutover", asked(s.lastCutover))
	mux.HandleFunc("POST "+prefix+"/cutover", s.cutover)
	mux.HandleFunc("POST "+prefix+"/cutover/cancel", s.cancelCutover)
	mux.HandleFunc("GET "+prefix+"/verify", asked(s.lastVerify))
	mux.HandleFunc("POST "+prefix+"/verify", s.verify)
	mux.HandleFunc("POST "+prefix+"/verify/cancel", asked(s.stopVerify))
	mux.HandleFunc("POST "+prefix+"/finish", s.finish)
	mux.HandleFunc("GET "+prefix+"/limits", asked(s.limits))
	mux.HandleFunc("POST "+prefix+"/limits", asked(s.limits))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answerError(w, &Error{Code: CodeNotFound, Message: fmt.Sprintf("this daemon knows no %s %s", r.Method, r.URL.Path),
			Remedy: "use a crossfade program of the same version"})
	})
	return mux
}

// readOnlyHandler serves the TCP port: what anyone who can reach it may see.
func (s *Server) readOnlyHandler() http.Handler {
	mux := http.NewServeMux()
	s.reading(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answerError(w, &Error{Code: CodeReadOnly, Message: fmt.Sprintf("%s %s is not served here", r.Method, r.URL.Path),
			Remedy: "use the control socket"})
	})
	return mux
}

func (s *Server) reading(mux *http.ServeMux) {
	mux.HandleFunc("GET "+prefix+"/healthz", asked(s.healthz))
	mux.HandleFunc("GET "+prefix+"/livez", asked(livez))
	mux.HandleFunc("GET "+prefix+"/status", asked(s.status))
	mux.HandleFunc("GET "+prefix+"/status/stream", s.stream)
	if s.cfg.Metrics != nil {
		mux.Handle("GET /metrics", s.cfg.Metrics)
	}
}

// now asks the daemon for its status.
func (s *Server) now(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	st, err := s.cfg.Daemon.Status(ctx)
	st.Operation = s.ops.current()
	return st, err
}

// asked answers with what f gives.
func asked(f func(w http.ResponseWriter, r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(w, r)
		if err != nil {
			answerError(w, err)
			return
		}
		answer(w, http.StatusOK, v)
	}
}

func (s *Server) healthz(_ http.ResponseWriter, r *http.Request) (any, error) {
	st, err := s.now(r.Context())
	if err != nil {
		return nil, err
	}
	if e := st.Ill(); e != nil {
		return nil, e
	}
	return Health{Phase: st.Phase, Version: st.Version}, nil
}

// livez says that the process lives and serves, whatever the state of the migration: restarting it
// would cut the applications off.
func livez(http.ResponseWriter, *http.Request) (any, error) { return struct{}{}, nil }

func (s *Server) status(_ http.ResponseWriter, r *http.Request) (any, error) {
	return s.now(r.Context())
}

func (s *Server) sessions(_ http.ResponseWriter, r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), statusTimeout)
	defer cancel()
	list, err := s.cfg.Daemon.Sessions(ctx)
	return lists.NotNil(list), err
}

func (s *Server) lastCutover(http.ResponseWriter, *http.Request) (any, error) {
	s.last.Lock()
	rep := s.last.cutover
	s.last.Unlock()
	if rep == nil {
		return nil, &Error{Code: CodeNotFound, Message: "this daemon has run no cutover", Remedy: "start one with crossfade cutover"}
	}
	return *rep, nil
}

func (s *Server) cutover(w http.ResponseWriter, r *http.Request) {
	var opt CutoverOptions
	if err := decode(w, r, &opt); err != nil {
		answerError(w, err)
		return
	}
	op, err := s.ops.start(cutoverName, true, func(ctx context.Context, op *operation) (any, error) {
		rep, err := s.cfg.Daemon.Cutover(ctx, opt, op.show)
		if err != nil {
			return nil, err
		}
		s.last.Lock()
		s.last.cutover = &rep
		s.last.Unlock()
		return rep, nil
	})
	if err != nil {
		answerError(w, err)
		return
	}
	if r.Header.Get("Accept") == streamType {
		s.follow(w, r, op)
		return
	}
	s.conclude(w, r, op)
}

// cutoverName is the name of the operation that can be withdrawn.
const cutoverName = "cutover"

// Why a cutover was withdrawn, as its report says.
var (
	errLeft        = errors.New("withdrawn: the connection of the command that asked for it was lost")
	errInterrupted = errors.New("withdrawn: the command that asked for it was interrupted")
	errCancelled   = errors.New("withdrawn by crossfade cutover --cancel")
)

// cancelCutover withdraws the cutover that runs and answers, when that has ended, with
// its report: what became of it.
func (s *Server) cancelCutover(w http.ResponseWriter, r *http.Request) {
	var opt CancelOptions
	if err := decode(w, r, &opt); err != nil {
		answerError(w, err)
		return
	}
	op := s.ops.withdrawable(cutoverName)
	if op == nil {
		answerError(w, &Error{Code: CodeRefused, Message: "no cutover is running", Remedy: "crossfade status says which side is active"})
		return
	}
	why := errCancelled
	if opt.Interrupted {
		why = errInterrupted
	}
	s.cfg.Log.Info().Str("operation", op.Name).Str("reason", why.Error()).Msg("operation withdrawn")
	op.cancel(why)
	select {
	case <-op.done:
		s.result(w, op)
	case <-r.Context().Done():
	}
}

func (s *Server) finish(w http.ResponseWriter, r *http.Request) {
	var opt FinishOptions
	if err := decode(w, r, &opt); err != nil {
		answerError(w, err)
		return
	}
	op, err := s.ops.start("finish", false, func(ctx context.Context, _ *operation) (any, error) {
		return s.cfg.Daemon.Finish(ctx, opt)
	})
	if err != nil {
		answerError(w, err)
		return
	}
	s.conclude(w, r, op)
}

// limits is no operation: it takes effect at once, whatever runs.
func (s *Server) limits(w http.ResponseWriter, r *http.Request) (any, error) {
	var c LimitsChange
	if r.Method == http.MethodPost {
		if err := decode(w, r, &c); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), statusTimeout)
	defer cancel()
	return s.cfg.Daemon.Limits(ctx, c)
}

// conclude waits for an operation and answers with its result, if the client is still there then.
func (s *Server) conclude(w http.ResponseWriter, r *http.Request, op *operation) {
	select {
	case <-op.done:
		s.result(w, op)
	case <-r.Context().Done():
		s.left(op)
	}
}

// result answers with what an operation that has ended gave.
func (s *Server) result(w http.ResponseWriter, op *operation) {
	if op.err != nil {
		answerError(w, op.err)
		return
	}
	answer(w, http.StatusOK, op.result)
}

// left withdraws the operation of a client that went away, where it can be withdrawn.
func (s *Server) left(op *operation) {
	if op.cancel == nil {
		s.cfg.Log.Info().Str("operation", op.Name).Msg("client left; the operation continues")
		return
	}
	s.cfg.Log.Warn().Str("operation", op.Name).Msg("client left; the operation is withdrawn")
	op.cancel(errLeft)
}

// decode reads a request's JSON and refuses what it does not allow; an empty body leaves v unchanged.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		_, err = d.Token() // and nothing after it; also reads to the end, so that the client's leaving is noticed
		if err == nil {
			err = errors.New("more than one value")
		}
	}
	if !errors.Is(err, io.EOF) {
		return &Error{Code: CodeUsage, Message: fmt.Sprintf("options cannot be read: %v", err),
			Remedy: "use a crossfade program of the same version"}
	}
	if v, ok := v.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

func answerError(w http.ResponseWriter, err error) {
	e := asError(err)
	answer(w, e.status(), e)
}

// answer writes one JSON object. That the client is gone is no error of ours.
func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"code":"internal","message":"the answer has no JSON form"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}
