package torture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/proxy/backend"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// lane is a client that speaks the protocol by hand and keeps every frame that it
// is sent. Something reads all the time, so that no pipeline can jam.
type lane struct {
	t    testing.TB
	conn net.Conn
	pid  uint32
	key  []byte
	chop int // bytes of a write; 0 for all at once

	mu struct {
		sync.Mutex
		tracker wire.Tracker // of what was sent and came
		copied  byte         // type of the last answer that began a COPY
		frames  []wire.Frame
		err     error
		changed chan struct{}
	}
	done chan struct{}
}

// dial logs in at address, which is that of the proxy or of the server itself.
func dial(t testing.TB, address string, as pg.DSN, params ...wire.Param) *lane {
	t.Helper()
	conn, err := backend.Dial(within(t), backend.Config{
		Address: address, User: as.User(), Password: as.Password(), Database: as.Database(), Params: params, ConnectTimeout: patience,
	})
	require.NoError(t, err)
	l := newLane(t, conn.Conn, conn.Leftover())
	l.pid, l.key = conn.PID, conn.Key
	return l
}

// idle is a client that is logged in and reads nothing.
type idle struct {
	t    testing.TB
	conn *backend.Conn
	pid  uint32
}

func (g *rig) raw() *idle {
	g.t.Helper()
	conn, err := backend.Dial(within(g.t), backend.Config{
		Address: g.Addr().String(), User: g.source.User(), Password: g.source.Password(), Database: g.source.Database(), ConnectTimeout: patience,
	})
	require.NoError(g.t, err)
	g.t.Cleanup(func() { _ = conn.Close() })
	return &idle{t: g.t, conn: conn, pid: conn.PID}
}

func (c *idle) write(b []byte) {
	c.t.Helper()
	_, err := c.conn.Write(b)
	require.NoError(c.t, err)
}

// pending reports that there is something to read, without reading it.
func (c *idle) pending() bool {
	raw, err := c.conn.Conn.(*net.TCPConn).SyscallConn()
	require.NoError(c.t, err)
	n := 0
	require.NoError(c.t, raw.Control(func(fd uintptr) {
		n, _, _ = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	}))
	return n > 0
}

// lane has it read from now on.
func (c *idle) lane() *lane {
	l := newLane(c.t, c.conn.Conn, c.conn.Leftover())
	l.pid, l.key = c.conn.PID, c.conn.Key
	return l
}

func newLane(t testing.TB, conn net.Conn, ahead []byte) *lane {
	t.Helper()
	l := &lane{t: t, conn: conn, done: make(chan struct{})}
	l.mu.changed = make(chan struct{})
	go func() {
		defer close(l.done)
		r := wire.NewReader(io.MultiReader(bytes.NewReader(ahead), conn), 1<<30)
		for {
			f, err := r.Next()
			l.mu.Lock()
			if err != nil {
				l.mu.err = err
			} else {
				l.mu.frames = append(l.mu.frames, wire.Frame{Type: f.Type, Body: bytes.Clone(f.Body)})
				_, _ = l.mu.tracker.Server(wire.AppendFrame(nil, f.Type, f.Body))
				if f.Type == 'G' || f.Type == 'H' {
					l.mu.copied = f.Type
				}
			}
			close(l.mu.changed)
			l.mu.changed = make(chan struct{})
			l.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-l.done
	})
	return l
}

// send writes b in pieces of chop bytes.
func (l *lane) send(b []byte) {
	l.t.Helper()
	l.mu.Lock()
	_, _ = l.mu.tracker.Client(b)
	l.mu.Unlock()
	for len(b) > 0 {
		n := len(b)
		if l.chop > 0 {
			n = min(n, l.chop)
			runtime.Gosched() // has the other end see the piece, most times
		}
		_, err := l.conn.Write(b[:n])
		require.NoError(l.t, err)
		b = b[n:]
	}
}

// await waits until ok says so of the frames from the one with that number on.
func (l *lane) await(from int, what string, ok func([]wire.Frame) bool) []wire.Frame {
	l.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		l.mu.Lock()
		frames, err, changed := l.mu.frames, l.mu.err, l.mu.changed
		l.mu.Unlock()
		if ok(frames[from:]) {
			return frames[from:]
		}
		if err != nil {
			require.NoError(l.t, err, "await %s behind %s", what, tell(frames[from:]))
		}
		select {
		case <-changed:
		case <-limit.C:
			require.FailNow(l.t, "nothing comes", "await %s behind %s", what, tell(frames[from:]))
		}
	}
}

// count is how many frames have come.
func (l *lane) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.frames)
}

// settled waits until all has been answered that will be answered before the client
// sends more, and reports whether that is a boundary.
func (l *lane) settled() bool {
	l.t.Helper()
	boundary := false
	l.await(0, "a standstill", func([]wire.Frame) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		boundary = l.mu.tracker.Boundary()
		why := l.mu.tracker.Reason()
		return why != wire.ReasonOutstanding && (why != wire.ReasonCopy || l.mu.copied == 'G')
	})
	return boundary
}

// until waits for a frame of that type.
func (l *lane) until(from int, typ byte) []wire.Frame {
	l.t.Helper()
	return l.await(from, string(typ), func(frames []wire.Frame) bool {
		for _, f := range frames {
			if f.Type == typ {
				return true
			}
		}
		return false
	})
}

// mark asks for a row of its own and waits for the whole of its answer: whatever was
// asked before has been answered then.
func (l *lane) mark(from int, name string) []wire.Frame {
	l.t.Helper()
	l.send(wiretest.AppendQuery(nil, "SELECT '"+strings.ReplaceAll(name, "'", "''")+"'"))
	return l.marked(from, name)
}

func (l *lane) marked(from int, name string) []wire.Frame {
	l.t.Helper()
	row := wire.AppendFrame(nil, 'D', append(binary.BigEndian.AppendUint32([]byte{0, 1}, uint32(len(name))), name...))
	return l.await(from, "row "+name, func(frames []wire.Frame) bool {
		for i := len(frames) - 3; i >= max(0, len(frames)-10); i-- { // little can come after it
			if frames[i].Type == 'D' && bytes.Equal(wire.AppendFrame(nil, 'D', frames[i].Body), row) {
				return true
			}
		}
		return false
	})
}

// normal replaces the pid of the session's own notifications, the one thing in which
// two sessions with the same life differ.
func (l *lane) normal(frames []wire.Frame) []wire.Frame {
	out := make([]wire.Frame, len(frames))
	for i, f := range frames {
		if f.Type == 'A' && len(f.Body) >= 4 && binary.BigEndian.Uint32(f.Body) == l.pid {
			f.Body = append([]byte("self"), f.Body[4:]...)
		}
		out[i] = f
	}
	return out
}

// tell shows frames, the last of them only where they are many.
func tell(frames []wire.Frame) string {
	const most = 40
	s := ""
	if len(frames) > most {
		s = fmt.Sprintf("(%d more) ", len(frames)-most)
		frames = frames[len(frames)-most:]
	}
	for _, f := range frames {
		s += fmt.Sprintf("%c(%.80q) ", f.Type, f.Body)
	}
	return s
}

// same requires two streams to be equal to the byte.
func same(t require.TestingT, want, got []wire.Frame, at string) {
	for i := range min(len(want), len(got)) {
		if want[i].Type != got[i].Type || !bytes.Equal(want[i].Body, got[i].Body) {
			require.FailNow(t, "streams differ", "%s, frame %d:\ndirect:  %s\nproxied: %s\nbehind %s",
				at, i, tell(want[i:i+1]), tell(got[i:i+1]), tell(got[:i]))
		}
	}
	require.Equal(t, tell(want), tell(got), at)
	require.Len(t, got, len(want), at)
}

// dribble is a relay in front of a server which writes size bytes at a time, both ways.
// It returns its address.
func dribble(t testing.TB, address string, size int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var conns sync.WaitGroup
	copyBytes := func(to, from net.Conn) {
		defer conns.Done()
		defer func() { _ = to.(*net.TCPConn).CloseWrite() }()
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			for p := buf[:n]; len(p) > 0; {
				m := min(size, len(p))
				if _, err := to.Write(p[:m]); err != nil {
					_ = from.Close()
					return
				}
				p = p[m:]
			}
			if err != nil {
				return
			}
		}
	}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", address)
			if err != nil {
				_ = near.Close()
				continue
			}
			conns.Add(2)
			go copyBytes(far, near)
			go func() {
				copyBytes(near, far)
				_ = near.Close()
				_ = far.Close()
			}()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-accepting
		conns.Wait()
	})
	return l.Addr().String()
}
