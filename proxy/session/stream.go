package session

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/obs"
	"crossfade/proxy/backend"
	"crossfade/proxy/ending"
	"crossfade/proxy/poll"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

// Stream is a replication connection: bytes are passed on unchanged, between the client and the
// source. It has no boundary and is never moved. Locks: none of its own; its connections are closed
// by run alone.
type Stream struct {
	Identity
	p   *Registry
	Log zerolog.Logger

	client net.Conn
	server *backend.Conn
	name   string // application_name

	ctx context.Context // ends when the stream does, with the reason as its cause
	End context.CancelCauseFunc
}

// StreamReason is why a stream cannot be moved.
var StreamReason = state.Reason{Verdict: state.Red, Code: "replication",
	Detail: "replication connection: it reads the source's WAL, and slots do not move"}

// Run passes bytes on until one of the two is gone or someone ends the stream.
func (s *Stream) Run() {
	stop := context.AfterFunc(s.ctx, func() {
		_ = s.client.SetReadDeadline(LongAgo)
		_ = s.client.SetWriteDeadline(time.Now().Add(side.GoodbyeTimeout))
		_ = s.server.SetDeadline(LongAgo)
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer s.p.Recovered(nil)
		defer s.End(ending.ErrClientGone)
		_, _ = io.Copy(s.server.Conn, s.client)
	}()
	between := s.down()
	<-done
	stop()
	s.p.LeaveStream(s)
	cause := context.Cause(s.ctx)
	if !errors.Is(cause, ending.ErrClientGone) {
		n := s.Note()
		n.Code, n.Detail = "ended", ending.InWords(cause)
		s.p.Struck.Add(s.Id, n, false)
	}
	if words := ending.LastWords(cause); words != nil && between {
		ending.Farewell(s.client, words)
	}
	_ = s.client.Close()
	side.Terminate(s.server)
	s.Log.Info().AnErr("reason", cause).Msg("replication connection ends")
}

// down passes on what the server sends and returns when the stream has ended. It reports whether
// the client can be told why: it is between two frames and the server has not said it.
func (s *Stream) down() (between bool) {
	defer s.p.Recovered(nil)
	defer s.End(ending.ErrServerGone)
	var at wire.Cursor
	told, follows := false, true // what the server sends is frames
	buf := make([]byte, poll.BufferSize)
	pass := func(p []byte) bool {
		follows = follows && at.Walk(p) == nil
		told = saysFatal(p)
		if _, err := s.client.Write(p); err != nil {
			s.End(ending.ErrClientGone)
			return false
		}
		return true
	}
	if left := s.server.Leftover(); len(left) > 0 && !pass(left) {
		return false
	}
	for {
		n, err := s.server.Read(buf)
		if n > 0 && !pass(buf[:n]) {
			return false
		}
		if err == nil {
			continue
		}
		if s.ctx.Err() == nil {
			s.End(ending.ErrServerGone)
			return false // it closed the connection as it wanted to, and so do we
		}
		break
	}
	// The rest of the frame under way, so that a message of ours can follow it.
	_ = s.server.SetReadDeadline(time.Now().Add(side.GoodbyeTimeout))
	for follows && !at.Between() {
		n, err := s.server.Read(buf[:min(at.Missing(), len(buf))])
		if n > 0 && !pass(buf[:n]) || err != nil {
			return false
		}
	}
	return follows && !told
}

// NewStream makes a replication connection of the two and enters it into the registry. It does not
// pass anything on before run.
func NewStream(ctx context.Context, p *Registry, who Identity, client net.Conn, conn *backend.Conn) *Stream {
	s := &Stream{Identity: who, p: p, client: client, server: conn, name: conn.Params["application_name"]}
	s.ctx, s.End = context.WithCancelCause(ctx)
	p.enterStream(s)
	s.Log = p.Log.With().Uint64(obs.KeySession, s.Id).Logger()
	return s
}

// Hello is what a server sends after AuthenticationOk; login is the role that the proxy logged in
// as.
func (s *Stream) Hello(login string) []byte {
	params := maps.Clone(s.server.Params)
	if params["session_authorization"] == login {
		params["session_authorization"] = s.User
	}
	return hello(params, s.pid, s.Key)
}

func (p *Registry) enterStream(s *Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.next++
	s.Id, s.began, s.pid = p.mu.next, time.Now(), p.freePID(s.server.PID)
	p.mu.streams[s.Id] = s
}

func (p *Registry) LeaveStream(s *Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mu.streams, s.Id)
}

// Streams returns the present replication connections, oldest first.
func (p *Registry) Streams() []*Stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	return lists.Map(slices.Sorted(maps.Keys(p.mu.streams)), func(id uint64) *Stream { return p.mu.streams[id] })
}

func (s *Stream) Note() Note {
	return Note{Session: s.Id, PID: s.pid, User: s.User, Database: s.Database, Client: s.client.RemoteAddr().String(),
		Code: StreamReason.Code, Detail: StreamReason.Detail}
}

func (s *Stream) Info() Info {
	return Info{Session: s.Id, PID: s.pid, Client: s.client.RemoteAddr().String(), User: s.User, Database: s.Database,
		ApplicationName: s.name, Side: side.Source, ServerPID: int32(s.server.PID), Began: s.began, State: StateReplication,
		Since: s.began, Verdict: StreamReason.Verdict.String(), Reasons: []state.Reason{StreamReason}, Checked: s.began}
}

func (s *Stream) ServerPID() int32 { return int32(s.server.PID) }

// Ended reports that the connection has ended, or is about to.
func (s *Stream) Ended() bool { return s.ctx.Err() != nil }
