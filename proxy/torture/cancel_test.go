package torture

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy"
	"crossfade/proxy/wire"
)

// cancel sends a CancelRequest as a driver does, and waits until the proxy has closed
// the connection: it has done then what it does.
func (g *rig) cancel(pid uint32, key []byte) {
	g.t.Helper()
	cancelAt(g.t, g.Addr().String(), pid, key)
}

// cancelAt is cancel at the address of the proxy or of a server.
func cancelAt(t testing.TB, address string, pid uint32, key []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = conn.Write(wire.AppendCancel(nil, pid, key))
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err, "nobody is told what a cancel request did")
}

// cancelUntil sends cancel requests until one more frame of that type has come: one that
// comes before there is anything to cancel is lost, as without a proxy.
func (g *rig) cancelUntil(l *lane, from int, typ byte) []wire.Frame {
	g.t.Helper()
	come := func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, f := range l.mu.frames[from:] {
			if f.Type == typ {
				return true
			}
		}
		return false
	}
	eventually(g.t, "the cancel has hit", func() bool {
		g.cancel(l.pid, l.key)
		return come()
	})
	return l.until(from, typ)
}

// cancelled requires an answer to be that of a cancelled statement and nothing else. One
// that has run has told its columns.
func cancelled(t testing.TB, frames []wire.Frame) {
	t.Helper()
	if frames[0].Type == 'T' {
		frames = frames[1:]
	}
	require.Equal(t, "EZ", types(frames))
	e, err := wire.DecodeError(frames[0].Body)
	require.NoError(t, err)
	require.Equal(t, pg.CodeQueryCanceled, e.Code)
	require.Equal(t, "ERROR", e.Severity)
	require.Equal(t, "I", string(frames[1].Body))
}

func types(frames []wire.Frame) string {
	var b []byte
	for _, f := range frames {
		b = append(b, f.Type)
	}
	return string(b)
}

// TestCancelInEveryState: a cancel request ends what runs or is held, and one that
// has nothing to end changes nothing: the next answer fits the next question.
func TestCancelInEveryState(t *testing.T) {
	t.Parallel()
	g := newRig(t, tortureSchema)
	l := g.lane()
	pid, key := l.pid, l.key
	looks := map[string]*pgx.Conn{proxy.Source: pgtest.Conn(t, g.source), proxy.Target: pgtest.Conn(t, g.target)}
	sleep := query("SELECT pg_sleep(600)")
	undisturbed := func(what string) {
		t.Helper()
		from := l.count()
		require.Equal(t, "TDCZ", types(l.mark(from, what)), what)
	}
	for round := range 4 { // on the source, on the target, and again: its key stays the same
		// Idle.
		for range 5 {
			g.cancel(l.pid, l.key)
		}
		undisturbed("idle")

		// Active; by the simple and the extended protocol.
		from := l.count()
		l.send(sleep)
		cancelled(t, g.cancelUntil(l, from, 'Z'))
		from = l.count()
		l.send(join(unit("SELECT pg_sleep(600)"), syncNow))
		eventually(t, "the server sleeps", func() bool { // a cancel that came before would end the Parse
			return pgtest.Value(t, looks[g.Status().Active], "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'") == "1"
		})
		got := g.cancelUntil(l, from, 'Z')
		require.Equal(t, "12TEZ", types(got))
		undisturbed("active")

		// In COPY; the server sees it when more data comes.
		from = l.count()
		l.send(query(copySQL))
		l.until(from, 'G')
		g.cancel(l.pid, l.key)
		eventually(t, "the COPY is cancelled", func() bool {
			l.send(good)
			return l.count() > from+1
		})
		cancelled(t, l.until(from, 'Z')[1:])
		undisturbed("copy")

		// Parked, with nothing queued.
		require.NoError(t, g.pause(within(t), round%2 == 0))
		for range 5 {
			g.cancel(l.pid, l.key)
		}
		// Parked, with a queued unit, and one after it that must be complete.
		for _, held := range [][]byte{query("CREATE TABLE public.never (id int)"), join(unit("CREATE TABLE public.never (id int)"), syncNow)} {
			from = l.count()
			l.send(held)
			cancelled(t, g.cancelUntil(l, from, 'Z'))
		}
		from = l.count()
		l.send(join(query("SELECT pg_sleep(0)"), query("SELECT 'behind'")))
		cancelled(t, g.cancelUntil(l, from, 'Z')[:2])
		report, err := g.finish(within(t))
		require.NoError(t, err)
		require.Zero(t, report.ClientErrors)
		got = l.mark(from, "after the move")
		require.Contains(t, []string{"EZTDCZTDCZ", "EZEZTDCZ"}, types(got), "the unit behind it is whole, or met a cancel of its own")

		// After the move: the old key still fits, others never did.
		require.Equal(t, pid, l.pid)
		from = l.count()
		l.send(join(query("SELECT pg_sleep(0.2)"), query("SELECT 'undisturbed'")))
		wrong := append([]byte(nil), key...)
		wrong[len(wrong)-1] ^= 1
		for _, k := range [][]byte{wrong, append(append([]byte(nil), key...), 0), {0, 0, 0, 0}} {
			g.cancel(pid, k)
		}
		g.cancel(pid+1, key)
		require.Equal(t, "TDCZTDCZ", types(l.marked(from, "undisturbed")))
	}
	for _, dsn := range []pg.DSN{g.source, g.target} {
		require.Equal(t, "true", pgtest.Value(t, pgtest.Conn(t, dsn), "to_regclass('public.never') IS NULL"))
	}
}

// TestCancelNeverHitsAProbe has cancel requests rain on sessions that are captured,
// restaged and moved without a pause: no move may fail of it, and no answer may be shifted.
func TestCancelNeverHitsAProbe(t *testing.T) {
	t.Parallel()
	g := newRig(t, tortureSchema)
	lanes := []*lane{g.lane(), g.lane(), g.lane()}
	for _, l := range lanes {
		from := l.count()
		l.send(join(query("SET app.x = 'kept'"), query("LISTEN c"), parse("n", "SELECT 1"), syncNow))
		l.await(from, "its state", func(frames []wire.Frame) bool { return types(frames) == "CZCZ1Z" }) // before a cancel can hit it
	}
	ctx, stop := context.WithCancel(t.Context())
	var rain sync.WaitGroup
	for _, l := range lanes {
		rain.Go(func() {
			for ctx.Err() == nil {
				conn, err := net.Dial("tcp", g.Addr().String())
				if err != nil {
					t.Errorf("send a cancel request: %v", err)
					return
				}
				_, _ = conn.Write(wire.AppendCancel(nil, l.pid, l.key))
				_, _ = conn.Read(make([]byte, 1))
				_ = conn.Close()
			}
		})
	}
	for i := range 12 {
		require.NoError(t, g.move(i%2 == 0))
	}
	stop()
	rain.Wait()
	for _, l := range lanes {
		// Those that come late hit, as without a proxy, what is asked next.
		answer := func(ask []byte, want, row string) {
			for range 100 {
				from := l.count()
				l.send(ask)
				got := l.await(from, want, func(frames []wire.Frame) bool { return strings.HasSuffix(types(frames), "Z") })
				if types(got) == want {
					require.Contains(t, string(got[strings.IndexByte(want, 'D')].Body), row)
					return
				}
				i := strings.IndexByte(types(got), 'E')
				require.GreaterOrEqual(t, i, 0, types(got))
				require.Contains(t, string(got[i].Body), "C"+pg.CodeQueryCanceled+"\x00")
			}
			t.Fatal("each statement was cancelled")
		}
		answer(query("SELECT current_setting('app.x')"), "TDCZ", "kept")
		answer(join(bind("n"), execute(0), syncNow), "2DCZ", "1")
		answer(query("SELECT 'asked again'"), "TDCZ", "asked again")
	}
}

// TestAThousandCancelsAtOnce: they wear nothing out, and nobody is cancelled whose key
// they do not have.
func TestAThousandCancelsAtOnce(t *testing.T) {
	t.Parallel()
	g := newRig(t, tortureSchema)
	victim, other := g.lane(), g.lane()
	fv, fo := victim.count(), other.count()
	victim.send(query("SELECT pg_sleep(600)"))
	other.send(join(query("SELECT pg_sleep(1)"), query("SELECT 'undisturbed'")))
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range 1000 {
		all.Go(func() {
			<-start
			conn, err := net.Dial("tcp", g.Addr().String())
			if err != nil {
				return // the queue of the listener is full: the kernel's matter
			}
			defer conn.Close()
			key := victim.key
			if i%2 == 0 {
				key = []byte{byte(i), byte(i >> 8), 0, 0}
			}
			_, _ = conn.Write(wire.AppendCancel(nil, victim.pid, key))
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			_, _ = conn.Read(make([]byte, 1))
		})
	}
	close(start)
	all.Wait()
	cancelled(t, g.cancelUntil(victim, fv, 'Z'))
	require.Equal(t, "TDCZTDCZ", types(other.marked(fo, "undisturbed")))
	require.NoError(t, g.move(true))
	fv = victim.count()
	victim.mark(fv, "still there")
	g.lane()
}
