package proxy

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/proxy/session"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// session returns what Sessions says of one client.
func (g *rig) session(t testing.TB, pid uint32, inspect bool) session.Info {
	t.Helper()
	for _, s := range g.Sessions(within(t), inspect) {
		if s.PID == pid {
			return s
		}
	}
	t.Fatalf("session with pid %d is not listed", pid)
	return session.Info{}
}

// inspected looks until the session was found at rest: its last answer may be with
// the client before the proxy knows that it was taken.
func (g *rig) inspected(t testing.TB, pid uint32) (s session.Info) {
	t.Helper()
	eventually(t, "the session is inspected", func() bool {
		s = g.session(t, pid, true)
		return s.Verdict != session.VerdictUnknown && !s.Stale
	})
	return s
}

func TestSessionsTellStateAndVerdict(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	named := func(c *pgx.ConnConfig) { c.RuntimeParams["application_name"] = "shop" }
	green, amber, hold, red, open := g.dial(t, named), g.dial(t), g.dial(t), g.dial(t), g.dial(t)
	run(t, amber, "SELECT pg_advisory_lock(1)")
	run(t, hold, "CREATE TEMP TABLE scratch (id int)")
	run(t, red, "SELECT set_config(name, 'secret', false) FROM (VALUES ('app.computed')) v(name)")
	run(t, open, "BEGIN")

	s := g.session(t, green.PgConn().PID(), false)
	require.Equal(t, session.VerdictUnknown, s.Verdict, "nobody has looked")
	require.Equal(t, "shop", s.ApplicationName)
	require.Equal(t, g.source.User(), s.User)
	require.Equal(t, g.source.Database(), s.Database)
	require.Equal(t, Source, s.Side)
	require.NotEmpty(t, s.Client)
	require.Equal(t, session.StateIdle, s.State)
	require.WithinRange(t, s.Since, s.Began, time.Now())

	list := g.Sessions(within(t), true)
	require.Len(t, list, 5)
	require.NotContains(t, fmt.Sprint(list), "secret")
	for conn, want := range map[*pgx.Conn][2]string{green: {"green", ""}, amber: {"amber", "advisory_locks"}, hold: {"hold", "temp_objects"}, red: {"red", "unknown_settings"}} {
		s := g.inspected(t, conn.PgConn().PID())
		require.Equal(t, want[0], s.Verdict)
		require.NotZero(t, s.Checked)
		if want[1] == "" {
			require.Empty(t, s.Reasons)
			continue
		}
		require.Equal(t, want[1], s.Reasons[0].Code)
	}
	s = g.session(t, open.PgConn().PID(), false)
	require.Equal(t, session.StateTransaction, s.State)
	require.Equal(t, session.VerdictUnknown, s.Verdict, "it is not stopped for a look")

	// The last verdict stands, as what it is, while a session is busy.
	run(t, hold, "BEGIN; DROP TABLE scratch")
	s = g.session(t, hold.PgConn().PID(), true)
	require.Equal(t, "hold", s.Verdict)
	require.True(t, s.Stale)
	run(t, hold, "COMMIT")
	s = g.inspected(t, hold.PgConn().PID())
	require.Equal(t, "green", s.Verdict)
}

// A client that never rests for long has a verdict all the same: it is met at its next boundary.
func TestABusySessionHasAVerdict(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c := g.rawDial(t)
	var s session.Info
	eventually(t, "a look falls into a statement, and there is time for a capture after it", func() bool {
		c.send(wiretest.AppendQuery(nil, "SELECT pg_sleep(0.01)"))
		active := g.session(t, c.pid, false).State == session.StateActive
		if active {
			s = g.session(t, c.pid, true)
		}
		require.Equal(t, "TDCZ", shape(c.until('Z')))
		return active && s.Verdict != session.VerdictUnknown
	})
	require.Equal(t, "green", s.Verdict)
	c.send(wiretest.AppendQuery(nil, "BEGIN"))
	c.until('Z')
	s = g.session(t, c.pid, true)
	require.Equal(t, "green", s.Verdict, "the last one stands while it is busy")
	require.True(t, s.Stale)
}

func TestSessionsInAPauseAreNotInspected(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	parked, waits := g.rawDial(t), g.rawDial(t)
	_, err := g.Pause(within(t), 1, 5*time.Second)
	require.NoError(t, err)
	waits.send(wiretest.AppendQuery(nil, "SELECT 1"))
	eventually(t, "it is held", func() bool { return g.waiting() == 1 })
	before := g.session(t, parked.pid, false).Checked
	require.Equal(t, session.StateParked, g.session(t, parked.pid, true).State)
	require.Equal(t, before, g.session(t, parked.pid, true).Checked)
	require.Equal(t, session.StateWaiting, g.session(t, waits.pid, true).State)
	require.NoError(t, g.Resume(within(t), 1))
}

// TestInspectionHarmsNobody looks without end while clients work: unnamed
// statements, pipelines and transactions go on as if nobody looked.
func TestInspectionHarmsNobody(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c := g.rawDial(t)
	looking, stop := context.WithCancel(within(t))
	looks := make(chan int, 1)
	go func() {
		n := 0
		for ; looking.Err() == nil; n++ {
			g.Sessions(looking, true)
		}
		looks <- n
	}()
	seen := map[string]bool{}
	for i := 0; i < 200 || !seen["green"]; i++ { // some looks come between two messages of the client
		c.send(wire.AppendSync(wire.AppendParse(nil, "", "SELECT 7", nil)))
		require.Equal(t, "1Z", shape(c.until('Z')))
		seen[g.session(t, c.pid, false).Verdict] = true
		b := wire.AppendSync(wire.AppendExecute(wire.AppendBind(nil, "", "", nil, nil, nil), "", 0))
		c.send(wiretest.AppendQuery(b, "SELECT 8"))
		require.Equal(t, "2DCZ", shape(c.until('Z')), "round %d", i)
		require.Equal(t, "TDCZ", shape(c.until('Z')), "round %d", i)
	}
	stop()
	require.Positive(t, <-looks)
}
