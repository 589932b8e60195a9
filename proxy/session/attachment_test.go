package session

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/ending"
	"crossfade/proxy/poll"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// engineHere says that sessions of this system can be attached to the engine.
const engineHere = runtime.GOOS == "linux"

// attached reports that the session is in the engine.
func (r *Session) attached() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.attachment.key != 0
}

// pumping reports that the session has both its pumps.
func (r *Session) pumping() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.attachment.clientPumps && r.mu.attachment.serverPumps
}

func needEngine(t *testing.T) {
	if !engineHere {
		t.Skip("the engine is for Linux")
	}
	t.Parallel()
}

// roundTrip makes one round trip.
func roundTrip(t *testing.T, near net.Conn, answer []byte) {
	t.Helper()
	_, err := near.Write(wiretest.AppendQuery(nil, "SELECT 1"))
	require.NoError(t, err)
	got := make([]byte, len(answer))
	_, err = io.ReadFull(near, got)
	require.NoError(t, err)
	require.Equal(t, answer, got)
}

// TestEngineGivesUpItsSession to a caller that wants it, and gets it back when it is calm.
func TestEngineGivesUpItsSession(t *testing.T) {
	needEngine(t)
	answer := rowAnswer()
	for _, how := range []played{{}, {tls: true}} {
		near, r := echo(t, answer, how)
		roundTrip(t, near, answer)
		require.True(t, r.attached())
		require.False(t, r.pumping())
		for range 3 {
			_, err := r.Owner.seize(inTime(t))
			require.NoError(t, err)
			require.False(t, r.attached())
			require.True(t, r.pumping())
			r.Owner.unseize()
			becomes(t, "back in the engine", func() bool {
				roundTrip(t, near, answer)
				return r.attached()
			})
			require.False(t, r.pumping())
		}
	}
}

// TestSeizedUnderLoad: an owner that comes at any moment stops the session at a
// boundary, and no byte is lost, doubled or out of order.
func TestSeizedUnderLoad(t *testing.T) {
	t.Parallel()
	for _, how := range []played{{}, {rewritten: true}, {pumps: true}, {tls: true}, {tls: true, rewritten: true}} {
		answer := rowAnswer()
		near, r := echo(t, answer, how)
		ctx, stop := context.WithCancel(inTime(t))
		var owner sync.WaitGroup
		owner.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				// Half of the time out of the engine, else on the way to it or in the pumps.
				for i%2 == 0 && !how.pumps && engineHere && !r.attached() && ctx.Err() == nil {
					runtime.Gosched()
				}
				s, err := r.Owner.seize(ctx)
				if err != nil {
					continue
				}
				r.mu.Lock()
				still := r.still() && s.in.Empty() && r.mu.attachment.key == 0
				r.mu.Unlock()
				if !still {
					t.Error("seized, and not still")
				}
				r.Owner.unseize()
				runtime.Gosched()
			}
		})
		for range 500 {
			roundTrip(t, near, answer)
		}
		stop()
		owner.Wait()
	}
}

// TestEngineDoesNotWait for a peer that does not read: its session goes to the pumps,
// the others go on, and every byte arrives in order once it reads.
func TestEngineDoesNotWait(t *testing.T) {
	needEngine(t)
	answer := rowAnswer()
	const size = 16 << 20 // more than the sockets take
	row := wire.AppendFrame(nil, 'D', append([]byte("\x00\x01\x00\x00\x3f\xfa"), make([]byte, 16378)...))
	rows := bytes.Repeat(row, size/len(row))
	toClient := wire.AppendReadyForQuery(wire.AppendFrame(nil, 'C', []byte("SELECT 1\x00")), 'I')
	toServer := bytes.Repeat(wire.AppendFrame(nil, 'd', make([]byte, 16<<10)), size/(16<<10))
	for name, direction := range map[string]struct {
		bulk, end []byte
		up, tls   bool
	}{
		"client":           {bulk: rows, end: toClient},
		"client under TLS": {bulk: rows, end: toClient, tls: true},
		"server":           {bulk: toServer, end: wire.AppendFrame(nil, 'c', nil), up: true},
		"server under TLS": {bulk: toServer, end: wire.AppendFrame(nil, 'c', nil), up: true, tls: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := bare(t, false)
			near, r, far := between(t, played{tls: direction.tls, in: p})
			require.True(t, r.attached())
			from, to := far, near
			if direction.up {
				from, to = near, far
			}
			query := wiretest.AppendQuery(nil, "x")
			_, err := near.Write(query)
			require.NoError(t, err)
			_, err = io.ReadFull(far, make([]byte, len(query)))
			require.NoError(t, err)

			sent := slices.Concat(direction.bulk, direction.end)
			var writer sync.WaitGroup
			defer writer.Wait()
			writer.Go(func() { _, _ = from.Write(sent) })
			becomes(t, "handed over", func() bool { return !r.attached() })
			again, _ := echo(t, answer, played{in: p})
			roundTrip(t, again, answer)
			got := make([]byte, len(sent))
			_, err = io.ReadFull(to, got)
			require.NoError(t, err)
			require.True(t, bytes.Equal(sent, got))
		})
	}
}

// TestEngineMeetsTheEnd of a peer, or a peer that breaks the protocol, or a bug: the
// session ends as it does in its pumps, with the words that belong to it.
func TestEngineMeetsTheEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(r *Session, near, far net.Conn)
		want string // SQLSTATE, "" for none
	}{
		"client gone":     {do: func(_ *Session, near, _ net.Conn) { _ = near.(interface{ CloseWrite() error }).CloseWrite() }},
		"server gone":     {func(_ *Session, _, far net.Conn) { _ = far.Close() }, "08006"},
		"client malforms": {func(_ *Session, near, _ net.Conn) { _, _ = near.Write([]byte{'Q', 0, 0, 0, 1}) }, "08P01"},
		"server malforms": {func(_ *Session, _, far net.Conn) { _, _ = far.Write([]byte{'S', 0, 0, 0, 1}) }, ""},
		"proxy ends":      {func(r *Session, _, _ net.Conn) { r.End(ending.ErrShutdown) }, "57P01"},
		"bug": {func(r *Session, _, far net.Conn) {
			r.mu.Lock()
			r.mu.observed.params = nil // a setting that is reported cannot be remembered
			r.mu.Unlock()
			_, _ = far.Write(wire.AppendParameterStatus(nil, "TimeZone", "UTC"))
		}, ""}, // within a message nothing can be said
		"last words": {func(_ *Session, _, far net.Conn) {
			_, _ = far.Write(wire.AppendError(nil, ending.Fatal("57P02", "crash of another server process")))
			_ = far.Close()
		}, "57P02"},
	} {
		for _, how := range []played{{}, {pumps: true}, {tls: true}, {tls: true, pumps: true}} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				near, r, far := between(t, how)
				c.do(r, near, far)
				_ = near.SetReadDeadline(time.Now().Add(time.Minute))
				said, err := io.ReadAll(near)
				require.NoError(t, err)
				if c.want == "" {
					require.Empty(t, said)
					return
				}
				require.Equal(t, 1, bytes.Count(said, []byte("FATAL\x00V")), "%q", said)
				require.Contains(t, string(said), "C"+c.want+"\x00")
			})
		}
	}
}

// TestEngineWaitsForWholeRecords: what comes of a record stays with crypto/tls until the rest
// is there, and many records that come at once are all served.
func TestEngineWaitsForWholeRecords(t *testing.T) {
	needEngine(t)
	rows := func(n int) []byte {
		row := wire.AppendFrame(nil, 'D', append([]byte("\x00\x01\x00\x00\x03\xe8"), make([]byte, 1000)...))
		return wire.AppendReadyForQuery(bytes.Repeat(row, n), 'I')
	}
	for name, how := range map[string]struct {
		played
		answer []byte
	}{
		"pieces": {played{tls: true, pieces: true}, rowAnswer()},
		"many":   {played{tls: true}, rows(300)},
		"both":   {played{tls: true, pieces: true, rewritten: true}, rows(20)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := how.answer
			near, r := echo(t, answer, how.played)
			query := wiretest.AppendQuery(nil, "SELECT 1")
			for range 50 {
				_, err := near.Write(query)
				require.NoError(t, err)
				got := make([]byte, len(answer))
				_, err = io.ReadFull(near, got)
				require.NoError(t, err)
				require.True(t, bytes.Equal(answer, got))
			}
			require.True(t, r.attached())
		})
	}
}

// TestEnginesShare: many sessions at once, each with its own bytes.
func TestEnginesShare(t *testing.T) {
	needEngine(t)
	p := bare(t, false)
	near, r := echo(t, rowAnswer(), played{in: p})
	require.True(t, r.attached())
	var g sync.WaitGroup
	for i := range 20 {
		answer := wire.AppendReadyForQuery(wire.AppendFrame(nil, 'C', bytes.Repeat([]byte{'a' + byte(i), 0}, i+1)), 'I')
		conn, other := echo(t, answer, played{in: p, tls: i%2 == 0})
		g.Go(func() {
			for range 200 {
				if _, err := conn.Write(wiretest.AppendQuery(nil, "x")); err != nil {
					t.Error(err)
					return
				}
				got := make([]byte, len(answer))
				if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, answer) {
					t.Error("another session's answer", err)
					return
				}
			}
		})
		require.True(t, other.attached())
	}
	roundTrip(t, near, rowAnswer())
	g.Wait()
}

// blocker keeps a worker of the engine in a turn.
type blocker struct{ began, release chan struct{} }

func (b blocker) Turn(uint64, bool, bool) {
	close(b.began)
	<-b.release
}

// occupy keeps the worker that waits for events in a turn until release is called: what arrives
// meanwhile waits in the queue.
func occupy(t *testing.T, p *Registry) (release func()) {
	t.Helper()
	_, r, server := between(t, played{pumps: true})
	_, err := r.Owner.seize(inTime(t)) // nothing else reads its sockets
	require.NoError(t, err)
	in, ok := poll.NewReader(r.client, nil).Descriptor()
	require.True(t, ok)
	out, ok := r.mu.server.in.Descriptor()
	require.True(t, ok)
	b := blocker{began: make(chan struct{}), release: make(chan struct{})}
	key := p.Engine.Add(b, in, out)
	require.NotZero(t, key)
	_, err = server.Write(wiretest.AppendQuery(nil, "SELECT 1"))
	require.NoError(t, err)
	<-b.began
	p.Engine.Remove(key, in, out)
	return func() {
		close(b.release)
		r.Owner.unseize()
	}
}

// TestAllThatASocketHasIsRead though the engine is told only once that it can be read: more bytes
// than a turn takes, and the end of the connection.
func TestAllThatASocketHasIsRead(t *testing.T) {
	needEngine(t)
	for _, how := range []played{{}, {tls: true}} {
		how.in = bare(t, false)
		near, r, server := between(t, how)
		require.True(t, r.attached())
		release := occupy(t, how.in)
		question := wiretest.AppendQuery(nil, "SELECT "+strings.Repeat("1", 3*poll.BufferSize))
		sent := make(chan error, 1)
		go func() {
			_, err := near.Write(question)
			if c, ok := near.(interface{ CloseWrite() error }); ok && err == nil {
				err = c.CloseWrite()
			}
			sent <- err
		}()
		require.NoError(t, <-sent)
		release()
		got := make([]byte, len(question))
		_, err := io.ReadFull(server, got)
		require.NoError(t, err)
		require.True(t, bytes.Equal(question, got))
		becomes(t, "the matter of its pumps, by the end of the connection", func() bool { return !r.attached() })
	}
}

// TestAnAnswerWaitsForAWriteToTheClient that comes from elsewhere, and is delivered after it.
func TestAnAnswerWaitsForAWriteToTheClient(t *testing.T) {
	needEngine(t)
	p, answer := bare(t, false), rowAnswer()
	near, r, server := between(t, played{in: p})
	question := wiretest.AppendQuery(nil, "SELECT 1")
	_, err := near.Write(question)
	require.NoError(t, err)
	_, err = io.ReadFull(server, make([]byte, len(question)))
	require.NoError(t, err)
	r.cw.Lock()
	_, err = server.Write(answer)
	require.NoError(t, err)
	occupy(t, p)() // its event comes after that of the answer
	r.cw.Unlock()
	got := make([]byte, len(answer))
	_, err = io.ReadFull(near, got)
	require.NoError(t, err)
	require.Equal(t, answer, got)
}
