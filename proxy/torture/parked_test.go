package torture

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy"
	"crossfade/proxy/wire"
)

// ended waits until the proxy has closed the connection and returns what came since.
func (l *lane) ended(from int) []wire.Frame {
	l.t.Helper()
	select {
	case <-l.done:
	case <-time.After(patience):
		require.FailNow(l.t, "the connection is not closed")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	require.ErrorIs(l.t, l.mu.err, io.EOF)
	return l.mu.frames[from:]
}

// code returns the SQLSTATE of the last error in frames, "" for none.
func code(t testing.TB, frames []wire.Frame) string {
	t.Helper()
	last := ""
	for _, f := range frames {
		if f.Type == 'E' {
			e, err := wire.DecodeError(f.Body)
			require.NoError(t, err)
			last = e.Code
		}
	}
	return last
}

// sideConn opens a session on a side without the proxy.
func (g *rig) sideConn(side string) func(sql string, args ...any) {
	dsn := g.source
	if side == proxy.Target {
		dsn = g.target
	}
	conn := pgtest.Conn(g.t, dsn)
	return func(sql string, args ...any) {
		g.t.Helper()
		pgtest.Exec(g.t, conn, sql, args...)
	}
}

// TestTerminateInEveryState: a client that says good-bye, or just goes, ends its own
// session, whatever state that is in, and the move of the others goes on.
func TestTerminateInEveryState(t *testing.T) {
	t.Parallel()
	g := newRig(t, tortureSchema)
	stays := g.lane()
	stays.send(query("SET app.x = 'stays'"))
	goodbye := wire.AppendTerminate(nil)
	leave := map[string]func(l *lane){
		"terminate": func(l *lane) { l.send(goodbye); require.Empty(t, code(t, l.ended(0))) },
		"close":     func(l *lane) { _ = l.conn.Close() },
		"half closed": func(l *lane) {
			require.NoError(t, l.conn.(*net.TCPConn).CloseWrite())
			l.ended(0)
		},
		"reset": func(l *lane) {
			require.NoError(t, l.conn.(*net.TCPConn).SetLinger(0))
			_ = l.conn.Close()
		},
	}
	held := map[string][]byte{
		"nothing": nil, "a unit": query("CREATE TABLE public.never (id int)"),
		"half a frame": query("CREATE TABLE public.never (id int)")[:9], "a unit without its sync": unit("CREATE TABLE public.never (id int)"),
		"two units": join(query("CREATE TABLE public.never (id int)"), query("SELECT 1")),
	}
	for how, do := range leave {
		// At a step each: while staged, while parked with something held, between
		// Restage and Switch.
		var early, late []*lane
		before := g.lane()
		for range held {
			early, late = append(early, g.lane()), append(late, g.lane())
		}
		g.epoch++
		ctx := within(t)
		_, err := g.Stage(ctx, g.epoch)
		require.NoError(t, err)
		do(before)
		_, err = g.Pause(ctx, g.epoch, patience)
		require.NoError(t, err)
		i := 0
		for what, b := range held {
			if how == "half closed" && (what == "a unit" || what == "two units") {
				_ = early[i].conn.Close() // who waits for an answer gets it
				i++
				continue
			}
			early[i].send(b)
			if how == "terminate" && len(b) == 9 {
				early[i].send(query("CREATE TABLE public.never (id int)")[9:])
			}
			if how == "terminate" && b != nil {
				// Terminate comes after what is held: the proxy sees it once that is released, as a
				// server would.
				_ = early[i].conn.Close()
			} else {
				do(early[i])
			}
			i++
		}
		eventually(t, how+": the parked are gone", func() bool { return g.Status().Sessions == 1+len(late) })
		_, err = g.Restage(ctx, g.epoch)
		require.NoError(t, err, how)
		for _, l := range late {
			do(l)
		}
		report, err := g.Switch(ctx, g.epoch, g.other())
		require.NoError(t, err, how)
		require.Zero(t, report.ClientErrors, "%s: %v", how, report.Failed)
		eventually(t, how+": all are gone", func() bool { return g.Status().Sessions == 1 })
		from := stays.count()
		stays.mark(from, how)
	}
	sides := []*pgx.Conn{pgtest.Conn(t, g.source), pgtest.Conn(t, g.target)}
	for _, conn := range sides {
		require.Equal(t, "true", pgtest.Value(t, conn, "to_regclass('public.never') IS NULL"))
	}
	eventually(t, "no server is left behind but one", func() bool {
		n := ""
		for _, conn := range sides {
			n += pgtest.Value(t, conn, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = ''")
		}
		return n == "01" || n == "10"
	})
}

// TestServerFatalWhileParked: servers say FATAL in the course of a move. A client whose
// session cannot be made whole again (it listens) is told in the server's words, once, and
// counted; after the last capture nobody notices anything, nor after the switch one whose
// session can be made whole; and the others move.
func TestServerFatalWhileParked(t *testing.T) {
	t.Parallel()
	g := newRig(t, tortureSchema)
	named := func(name string) wire.Param { return wire.Param{Name: "application_name", Value: name} }
	const during0, during1, during2, during3 = "while staged", "while parked", "while parked with a unit held", "between restage and switch"
	for _, during := range []string{during0, during0, during1, during1, during2, during2, during3, during3} {
		during := during + ", from the " + g.Status().Active
		victim, plain, stays := g.lane(named("victim")), g.lane(named("plain")), g.lane()
		victim.send(query("LISTEN c"))
		victim.mark(0, "listens")
		from, plainFrom := victim.count(), plain.count()
		admin := g.sideConn(g.Status().Active)
		alive := g.Status().Active == proxy.Target
		kill := func(when string) {
			if !strings.HasPrefix(during, when+",") {
				return
			}
			admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim' AND datname = current_database()")
			if when == during3 { // it is not needed any more
				admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'plain' AND datname = current_database()")
				return
			}
			got := victim.ended(from)
			require.Equal(t, "E", types(got), during)
			require.Equal(t, pg.CodeAdminShutdown, code(t, got), during)
			if alive {
				admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'plain' AND datname = current_database()")
			}
		}
		g.epoch++
		ctx := within(t)
		_, err := g.Stage(ctx, g.epoch)
		require.NoError(t, err)
		kill(during0)
		_, err = g.Pause(ctx, g.epoch, patience)
		require.NoError(t, err)
		kill(during1)
		if strings.HasPrefix(during, during2) {
			victim.send(query("CREATE TABLE public.never (id int)"))
			if !alive {
				plain.send(query("SELECT 'held'"))
			}
		}
		kill(during2)
		_, err = g.Restage(ctx, g.epoch)
		require.NoError(t, err, during)
		kill(during3)
		report, err := g.Switch(ctx, g.epoch, g.other())
		require.NoError(t, err, during)
		if strings.HasPrefix(during, during3) {
			require.Zero(t, report.ClientErrors, "%s: %v", during, report.Failed)
			require.NotContains(t, types(victim.mark(from, during)), "E", during)
			_ = victim.conn.Close()
		} else {
			require.Equal(t, 1, report.ClientErrors, "%s: %v", during, report.Failed)
		}
		require.NotContains(t, types(plain.mark(plainFrom, during)), "E", during)
		stays.mark(stays.count(), during)
		for _, l := range []*lane{plain, stays} {
			_ = l.conn.Close()
		}
		eventually(t, "nobody is left", func() bool { return g.Status().Sessions == 0 })
	}
}

// TestWarmServerFatal: the server on the other side, which nobody talks to yet, goes away. It is
// made again, and the client notices nothing.
func TestWarmServerFatal(t *testing.T) {
	t.Parallel()
	g := newRig(t, tortureSchema)
	l := g.lane(wire.Param{Name: "application_name", Value: "victim"})
	l.send(join(query("SET app.x = 'kept'"), parse("n", "SELECT 'prepared'"), syncNow))
	from := l.count()
	want := l.mark(from, "ready")
	kill := func() {
		admin := g.sideConn(g.other())
		admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim' AND datname = current_database()")
		gone := pgtest.Conn(t, map[string]pg.DSN{proxy.Source: g.source, proxy.Target: g.target}[g.other()])
		eventually(t, "it has ended", func() bool {
			return pgtest.Value(t, gone, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'victim' AND datname = current_database()") == "0"
		})
	}
	require.NotEmpty(t, want)
	for _, during := range []string{"while staged", "while parked", "between restage and switch"} {
		g.epoch++
		ctx := within(t)
		_, err := g.Stage(ctx, g.epoch)
		require.NoError(t, err)
		if during == "while staged" {
			kill()
		}
		_, err = g.Pause(ctx, g.epoch, patience)
		require.NoError(t, err)
		if during == "while parked" {
			kill()
		}
		_, err = g.Restage(ctx, g.epoch)
		require.NoError(t, err, during)
		if during == "between restage and switch" {
			kill()
		}
		report, err := g.Switch(ctx, g.epoch, g.other())
		require.NoError(t, err, during)
		require.Zero(t, report.ClientErrors, "%s: %v", during, report.Failed)
		from := l.count()
		l.send(join(query("SELECT current_setting('app.x')"), bind("n"), execute(0), syncNow))
		got := l.mark(from, during)
		require.Equal(t, "TDCZ2DCZTDCZ", types(got), during)
		require.True(t, bytes.HasSuffix(got[1].Body, []byte("kept")))
		require.True(t, bytes.HasSuffix(got[5].Body, []byte("prepared")))
	}
}

// TestAsynchronousMessagesInThePause: what the server says of itself while the session
// is parked reaches the client, whole and once, and before anything of the new server.
func TestAsynchronousMessagesInThePause(t *testing.T) {
	t.Parallel()
	own := map[string]*pgcluster.Cluster{proxy.Source: pgtest.Own(t, pgtest.Source), proxy.Target: pgtest.Own(t, pgtest.Target)} // it sets what others would be told, too
	g := newRigOn(t, own[proxy.Source], own[proxy.Target], tortureSchema)
	l := g.lane()
	l.send(query("LISTEN c"))
	l.mark(l.count(), "listens")
	for range 4 {
		from := l.count()
		speak := g.sideConn(g.Status().Active)
		require.NoError(t, g.pause(within(t), true))
		speak("NOTIFY c, 'one'")
		speak("NOTIFY c, 'two'")
		got := l.await(from, "notifications in the pause", func(f []wire.Frame) bool { return len(f) >= 2 })
		require.Equal(t, "AA", types(got))
		l.send(query("SELECT 'held'"))
		_, err := g.finish(within(t))
		require.NoError(t, err)
		require.Equal(t, "AATDCZ", types(l.marked(from, "held")))
		from = l.count()
		g.sideConn(g.Status().Active)("NOTIFY c, 'three'")
		l.await(from, "a notification of the new server", func(f []wire.Frame) bool { return len(f) == 1 && f[0].Type == 'A' })
	}

	// A setting that the server reports by itself: the configuration is read again.
	from := l.count()
	require.NoError(t, g.pause(within(t), true))
	admin := pgtest.Conn(t, own[g.Status().Active].AdminDSN("postgres"))
	pgtest.Exec(t, admin, "ALTER SYSTEM SET IntervalStyle = 'iso_8601'")
	pgtest.Exec(t, admin, "SELECT pg_reload_conf()")
	l.send(query("SELECT 'behind'"))
	_, err := g.finish(within(t))
	require.NoError(t, err)
	got := l.marked(from, "behind")
	require.Equal(t, "TDCZ", types(got)[len(got)-4:])
}

// TestAClientThatDoesNotRead: its session drains when it reads on; until then the
// pause aborts and names it, and nobody else is harmed.
func TestAClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	g := newRig(t, tortureSchema)
	others := g.lane()
	for range 2 {
		slow := g.raw()
		const rows = 40_000 // of a kilobyte: more than all buffers on the way
		slow.write(query("SELECT repeat('x', 1000) FROM generate_series(1, 40000)"))
		eventually(t, "the answer has begun", func() bool { return slow.pending() })

		g.epoch++
		_, err := g.Pause(within(t), g.epoch, 300*time.Millisecond)
		var late *proxy.DrainTimeoutError
		require.ErrorAs(t, err, &late)
		require.Len(t, late.Sessions, 1)
		require.Equal(t, slow.pid, late.Sessions[0].PID)
		require.False(t, g.Status().Closed)
		others.mark(others.count(), "others go on")

		moved := g.inBackground(false)
		l := slow.lane()
		require.NoError(t, <-moved)
		l.send(query("SELECT 'end'"))
		got := l.marked(0, "end")
		require.Len(t, got, rows+7)
		for _, f := range got[1 : rows+1] {
			require.Equal(t, byte('D'), f.Type)
			require.Len(t, f.Body, 1006)
		}
		others.mark(others.count(), "others have moved")
		_ = l.conn.Close()
		eventually(t, "it has left", func() bool { return g.Status().Sessions == 1 })
	}
}

// TestAServerThatDoesNotRead: a client that sends more than anybody takes while its
// server does something else is held back and drained all the same.
func TestAServerThatDoesNotRead(t *testing.T) {
	t.Parallel()
	g := newRig(t, tortureSchema)
	l := g.lane()
	from := l.count()
	var all []byte
	pad := bytes.Repeat([]byte(" "), 64<<10)
	for range 300 {
		all = append(all, query("SELECT 1"+string(pad))...)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		l.send(join(query("SELECT pg_sleep(1)"), all, query("SELECT 'end'")))
	}()
	for i := range 4 {
		require.NoError(t, g.move(i%2 == 0))
	}
	<-sent
	require.Len(t, l.marked(from, "end"), 4*302)
}

// TestServersThatEndAheadOfTheSwitch: after the switch, servers end in the pause, and the next
// switch comes while others are made in their place. These are not needed: the sessions are staged
// on the other side already.
func TestServersThatEndAheadOfTheSwitch(t *testing.T) {
	t.Parallel()
	g := newRig(t, tortureSchema)
	var list []*lane
	for range 12 {
		l := g.lane(wire.Param{Name: "application_name", Value: "plain"})
		l.send(query("SET app.x = 'kept'"))
		list = append(list, l)
	}
	for range 3 {
		require.NoError(t, g.move(true))
		require.Equal(t, proxy.Target, g.Status().Active)
		require.NoError(t, g.pause(within(t), true))
		_, err := g.Restage(within(t), g.epoch)
		require.NoError(t, err)
		g.sideConn(proxy.Target)("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'plain' AND datname = current_database()")
		report, err := g.Switch(within(t), g.epoch, proxy.Source)
		require.NoError(t, err)
		require.Empty(t, report.Failed)
		for _, l := range list {
			from := l.count()
			l.send(query("SELECT current_setting('app.x')"))
			require.Equal(t, "TDCZTDCZ", types(l.mark(from, "served")))
		}
	}
}
