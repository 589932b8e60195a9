package proxy

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
)

// engineHere says that sessions of this system can be in an engine.
const engineHere = runtime.GOOS == "linux"

// seated reports that the session is in the engine.
func (r *relay) seated() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.seat.key != 0
}

// pumping reports that the session has both its pumps.
func (r *relay) pumping() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.seat.clientPumps && r.mu.seat.serverPumps
}

func needEngine(t *testing.T) {
	if !engineHere {
		t.Skip("the engine is for Linux")
	}
	t.Parallel()
}

// ask makes one round trip.
func ask(t *testing.T, near net.Conn, answer []byte) {
	t.Helper()
	_, err := near.Write(wire.AppendQuery(nil, "SELECT 1"))
	require.NoError(t, err)
	got := make([]byte, len(answer))
	_, err = io.ReadFull(near, got)
	require.NoError(t, err)
	require.Equal(t, answer, got)
}

// TestEngineGivesUpItsSession to whoever wants it, and gets it back when it is calm.
func TestEngineGivesUpItsSession(t *testing.T) {
	needEngine(t)
	answer := rowAnswer()
	near, r := echo(t, answer, played{})
	ask(t, near, answer)
	require.True(t, r.seated())
	require.False(t, r.pumping())
	for range 3 {
		_, err := r.seize(within(t))
		require.NoError(t, err)
		require.False(t, r.seated())
		require.True(t, r.pumping())
		r.unseize()
		eventually(t, "back in the engine", func() bool {
			ask(t, near, answer)
			return r.seated()
		})
		require.False(t, r.pumping())
	}
}

// TestSeizedUnderLoad: an owner that comes at any moment stops the session at a
// boundary, and no byte is lost, doubled or out of order.
func TestSeizedUnderLoad(t *testing.T) {
	t.Parallel()
	for _, how := range []played{{}, {rewritten: true}, {pumps: true}} {
		answer := rowAnswer()
		near, r := echo(t, answer, how)
		ctx, stop := context.WithCancel(within(t))
		var owner sync.WaitGroup
		owner.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				// Half of the time out of the engine, else on the way to it or in the pumps.
				for i%2 == 0 && !how.pumps && engineHere && !r.seated() && ctx.Err() == nil {
					runtime.Gosched()
				}
				s, err := r.seize(ctx)
				if err != nil {
					continue
				}
				r.mu.Lock()
				still := r.still() && s.in.whole() && r.mu.seat.key == 0
				r.mu.Unlock()
				if !still {
					t.Error("seized, and not still")
				}
				r.unseize()
				runtime.Gosched()
			}
		})
		for range 500 {
			ask(t, near, answer)
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
	for name, direction := range map[string]struct {
		bulk, end []byte
		up        bool
	}{
		"client": {bulk: rows, end: wire.AppendReadyForQuery(wire.AppendFrame(nil, 'C', []byte("SELECT 1\x00")), 'I')},
		"server": {bulk: bytes.Repeat(wire.AppendFrame(nil, 'd', make([]byte, 16<<10)), size/(16<<10)), end: wire.AppendFrame(nil, 'c', nil), up: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near, r, far := between(t, played{})
			require.True(t, r.seated())
			from, to := far, near
			if direction.up {
				from, to = near, far
			}
			query := wire.AppendQuery(nil, "x")
			_, err := near.Write(query)
			require.NoError(t, err)
			_, err = io.ReadFull(far, make([]byte, len(query)))
			require.NoError(t, err)

			sent := append(direction.bulk, direction.end...)
			var writer sync.WaitGroup
			defer writer.Wait()
			writer.Go(func() { _, _ = from.Write(sent) })
			eventually(t, "handed over", func() bool { return !r.seated() })
			again, _ := echo(t, answer, played{in: r.p})
			ask(t, again, answer)
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
		do   func(r *relay, near, far net.Conn)
		want string // SQLSTATE, "" for none
	}{
		"client gone":     {do: func(_ *relay, near, _ net.Conn) { _ = near.(*net.TCPConn).CloseWrite() }},
		"server gone":     {func(_ *relay, _, far net.Conn) { _ = far.Close() }, "08006"},
		"client malforms": {func(_ *relay, near, _ net.Conn) { _, _ = near.Write([]byte{'Q', 0, 0, 0, 1}) }, "08P01"},
		"server malforms": {func(_ *relay, _, far net.Conn) { _, _ = far.Write([]byte{'S', 0, 0, 0, 1}) }, ""},
		"proxy ends":      {func(r *relay, _, _ net.Conn) { r.end(errShutdown) }, "57P01"},
		"bug": {func(r *relay, _, far net.Conn) {
			r.mu.Lock()
			r.mu.params = nil // a setting that is reported cannot be remembered
			r.mu.Unlock()
			_, _ = far.Write(wire.AppendParameterStatus(nil, "TimeZone", "UTC"))
		}, ""}, // within a message nothing can be said
		"last words": {func(_ *relay, _, far net.Conn) {
			_, _ = far.Write(wire.AppendError(nil, fatal("57P02", "crash of another server process")))
			_ = far.Close()
		}, "57P02"},
	} {
		for _, pumps := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				near, r, far := between(t, played{pumps: pumps})
				c.do(r, near, far)
				_ = near.SetReadDeadline(time.Now().Add(20 * time.Second))
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

// TestEnginesShare: many sessions at once, each with its own bytes.
func TestEnginesShare(t *testing.T) {
	needEngine(t)
	p := bare(t, false)
	near, r := echo(t, rowAnswer(), played{in: p})
	require.True(t, r.seated())
	var g sync.WaitGroup
	for i := range 20 {
		answer := wire.AppendReadyForQuery(wire.AppendFrame(nil, 'C', bytes.Repeat([]byte{'a' + byte(i), 0}, i+1)), 'I')
		conn, other := echo(t, answer, played{in: p})
		g.Go(func() {
			for range 200 {
				if _, err := conn.Write(wire.AppendQuery(nil, "x")); err != nil {
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
		require.True(t, other.seated())
	}
	ask(t, near, rowAnswer())
	g.Wait()
}

// TestManySessionsShareTheEngines: the one too many for an engine is another one's, and
// is served like all others.
func TestManySessionsShareTheEngines(t *testing.T) {
	needEngine(t)
	p, answer := bare(t, false), rowAnswer()
	list := *p.engines.running.Load()
	if len(list) == 1 {
		t.Skip("a machine with one core has one engine")
	}
	for _, e := range list {
		require.Equal(t, list[0].looking, e.looking, "they look on in turns")
		require.LessOrEqual(t, cap(e.looking), runtime.GOMAXPROCS(0)/2, "and leave cores to others")
	}
	all := func() (n int) {
		for _, e := range list {
			n += e.sessions()
		}
		return n
	}
	nears := make([]net.Conn, fullHouse+1)
	for i := range nears {
		near, r := echo(t, answer, played{in: p})
		nears[i] = near
		ask(t, near, answer)
		require.True(t, r.seated())
		require.Equal(t, i+1, all())
	}
	require.Equal(t, fullHouse, list[0].sessions())
	for _, near := range nears {
		ask(t, near, answer)
	}
	_, r := echo(t, answer, played{in: p})
	require.NotSame(t, list[0], r.mu.seat.engine)
	_, err := r.seize(within(t))
	require.NoError(t, err)
	require.Equal(t, len(nears), all(), "a session that is handed over counts no longer")
	r.unseize()
}
