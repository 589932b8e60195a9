package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"crossfade/internal/obs"
	"crossfade/proxy/backend"
	"crossfade/proxy/session"
	"crossfade/proxy/wire"
)

// stream is a replication connection: bytes are passed on as they are, between the
// client and the source. It has no boundary and is never moved. Locks: none of its
// own; its connections are closed by run alone.
type stream struct {
	p   *Proxy
	id  uint64
	log zerolog.Logger

	client   net.Conn
	server   *backend.Conn
	user     string // as the client knows them
	database string
	name     string // application_name
	began    time.Time
	pid      uint32 // as the client knows it
	key      []byte

	ctx context.Context // ends when the stream does, with the reason as its cause
	end context.CancelCauseFunc
}

// streamReason is why a stream cannot be moved.
var streamReason = session.Reason{Verdict: session.Red, Code: "replication",
	Detail: "replication connection: it reads the source's WAL, and slots do not move"}

// run passes bytes on until one of the two is gone or somebody ends the stream.
func (s *stream) run() {
	stop := context.AfterFunc(s.ctx, func() {
		_ = s.client.SetReadDeadline(longAgo)
		_ = s.client.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
		_ = s.server.SetDeadline(longAgo)
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer s.p.recovered(nil)
		defer s.end(errClientGone)
		_, _ = io.Copy(s.server.Conn, s.client)
	}()
	between := s.down()
	<-done
	stop()
	s.p.leaveStream(s)
	cause := context.Cause(s.ctx)
	if !errors.Is(cause, errClientGone) {
		n := s.note()
		n.Code, n.Detail = "ended", ending(cause)
		s.p.struck.add(s.id, n, false)
	}
	if words := lastWords(cause); words != nil && between {
		farewell(s.client, words)
	}
	_ = s.client.Close()
	terminate(s.server)
	s.log.Info().AnErr("reason", cause).Msg("replication connection ends")
}

// down passes on what the server sends and returns when the stream has ended. It
// reports whether the client can be told why: it stands between two frames and the
// server has not said it.
func (s *stream) down() (between bool) {
	defer s.p.recovered(nil)
	defer s.end(errServerGone)
	var at spot
	told := false
	buf := make([]byte, bufferSize)
	pass := func(p []byte) bool {
		at.walk(p)
		told = saysFatal(p)
		if _, err := s.client.Write(p); err != nil {
			s.end(errClientGone)
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
			s.end(errServerGone)
			return false // it closed the connection as it wanted to, and so do we
		}
		break
	}
	// The rest of the frame that is under way, so that words of ours fit behind it.
	_ = s.server.SetReadDeadline(time.Now().Add(goodbyeTimeout))
	for !at.between() {
		n, err := s.server.Read(buf[:min(at.missing(), len(buf))])
		if n > 0 && !pass(buf[:n]) || err != nil {
			return false
		}
	}
	return !told
}

// spot is where a stream of frames stands.
type spot struct {
	head [5]byte
	seen int
	left int
}

func (w *spot) between() bool { return w.seen == 0 && w.left == 0 }

// missing is how many bytes certainly belong to the frame under way.
func (w *spot) missing() int {
	if w.left > 0 {
		return w.left
	}
	return len(w.head) - w.seen
}

func (w *spot) walk(p []byte) {
	for len(p) > 0 {
		if w.left > 0 {
			n := min(w.left, len(p))
			w.left -= n
			p = p[n:]
			continue
		}
		n := copy(w.head[w.seen:], p)
		w.seen += n
		p = p[n:]
		if w.seen == len(w.head) {
			w.seen, w.left = 0, max(0, int(binary.BigEndian.Uint32(w.head[1:]))-4)
		}
	}
}

// errNoReplication refuses replication connections while the target is active.
var errNoReplication = fatal("0A000", "replication connections are passed to the source only, and the source is not active any more; connect to the target itself")

// stream waits at the gate, dials the source and makes a stream of the two.
func (l *login) stream(ctx context.Context) (*stream, error) {
	p := l.p
	_ = l.conn.SetDeadline(time.Time{})
	if ctx.Err() != nil {
		return nil, errShutdown
	}
	lease, err := l.admit(ctx)
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	if p.router.Current().Endpoint != Source {
		return nil, errNoReplication
	}
	at := p.cfg.Source
	if !l.startup.ReplicationDatabase() {
		at.Database = nil // a physical one is connected to no database, and the name means nothing
	}
	at.Pins = nil // nothing of it shows results
	name, conn, err := l.dial(ctx, &at)
	if err != nil {
		return nil, err
	}
	s := &stream{p: p, client: l.conn, server: conn, user: l.user, database: l.database, key: newKey(l.version), name: conn.Params["application_name"]}
	s.ctx, s.end = context.WithCancelCause(l.base)
	p.enterStream(s)
	s.log = p.log.With().Uint64(obs.KeySession, s.id).Logger()
	params := maps.Clone(conn.Params)
	if params["session_authorization"] == name {
		params["session_authorization"] = l.user
	}
	var b []byte
	for _, k := range slices.Sorted(maps.Keys(params)) {
		b = wire.AppendParameterStatus(b, k, params[k])
	}
	b = wire.AppendReadyForQuery(wire.AppendBackendKeyData(b, s.pid, s.key), 'I')
	_ = l.conn.SetWriteDeadline(time.Now().Add(p.cfg.LoginTimeout))
	if _, err := l.conn.Write(b); err != nil {
		p.leaveStream(s)
		terminate(conn)
		return nil, errClientGone
	}
	_ = l.conn.SetWriteDeadline(time.Time{})
	s.log.Info().Str(obs.KeyUser, s.user).Str(obs.KeyDatabase, s.database).Msg("replication connection begins; it cannot be moved")
	return s, nil
}

func (p *Proxy) enterStream(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.next++
	s.id, s.began, s.pid = p.mu.next, time.Now(), p.freePID(s.server.PID)
	p.mu.streams[s.id] = s
}

func (p *Proxy) leaveStream(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mu.streams, s.id)
}

// streams returns the present replication connections, oldest first.
func (p *Proxy) streams() []*stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*stream
	for _, id := range slices.Sorted(maps.Keys(p.mu.streams)) {
		list = append(list, p.mu.streams[id])
	}
	return list
}

func (s *stream) note() SessionNote {
	return SessionNote{Session: s.id, PID: s.pid, User: s.user, Database: s.database, Client: s.client.RemoteAddr().String(),
		Code: streamReason.Code, Detail: streamReason.Detail}
}

func (s *stream) info() SessionInfo {
	return SessionInfo{Session: s.id, PID: s.pid, Client: s.client.RemoteAddr().String(), User: s.user, Database: s.database,
		ApplicationName: s.name, Side: Source, ServerPID: int32(s.server.PID), Began: s.began, State: StateReplication,
		Since: s.began, Verdict: streamReason.Verdict.String(), Reasons: []session.Reason{streamReason}, Checked: s.began}
}

// judgeStreams notes the replication connections, none of which can be moved.
func (f *findings) judgeStreams(list []*stream) {
	for _, s := range list {
		switch {
		case s.ctx.Err() != nil:
		case f.policy.lenient(streamReason.Verdict):
			f.mu.Lock()
			f.streams = append(f.streams, s)
			f.mu.Unlock()
		default:
			f.add(&f.unmovable, s.note())
		}
	}
}
