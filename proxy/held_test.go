package proxy

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/poll"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

func TestHoldLimit(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth, c.HoldLimit = trustAll{}, 300*time.Millisecond })
	held, idle, full := g.rawDial(t), g.rawDial(t), g.rawDial(t)
	_, err := g.Pause(within(t), 1, time.Second)
	require.NoError(t, err)
	held.send(wiretest.AppendQuery(nil, "SELECT 1"))
	big := make([]byte, 2*poll.BufferSize)
	for i := range big {
		big[i] = ' '
	}
	full.send(wiretest.AppendQuery(nil, string(big)+"SELECT 1"))
	require.Equal(t, pg.CodeCannotConnectNow, held.gone().Code)
	require.Equal(t, pg.CodeCannotConnectNow, full.gone().Code)
	_, err = pgx.ConnectConfig(within(t), g.client.Config())
	require.Equal(t, pg.CodeCannotConnectNow, pg.Code(err), "a login is held no longer either")
	require.NoError(t, g.Resume(within(t), 1))
	require.Equal(t, "TDCZ", idle.query("SELECT 1"), "one that asked for nothing is not held")
}

func TestClientsThatLeaveWhileParked(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	silent, waiting, polite, stays := g.rawDial(t), g.rawDial(t), g.rawDial(t), g.rawDial(t)
	_, err := g.Stage(within(t), 1)
	require.NoError(t, err)
	_, err = g.Pause(within(t), 1, time.Second)
	require.NoError(t, err)
	waiting.send(wiretest.AppendQuery(nil, "CREATE TABLE public.never (id int)"))
	eventually(t, "it is held", func() bool { return g.waiting() == 1 })
	polite.send(wire.AppendTerminate(nil))
	require.Nil(t, polite.gone())
	require.NoError(t, silent.conn.Close())
	require.NoError(t, waiting.conn.Close())
	eventually(t, "three are gone", func() bool { return g.Status().Sessions == 1 })
	_, err = g.Restage(within(t), 1)
	require.NoError(t, err)
	report, err := g.Switch(within(t), 1, Target)
	require.NoError(t, err)
	require.Equal(t, 1, report.Moved)
	require.Zero(t, report.ClientErrors)
	require.Equal(t, "TDCZ", stays.query("SELECT 1"))
	require.Equal(t, "<NULL>", orNull(value(t, pgtest.Conn(t, g.source), "to_regclass('public.never')")))
}

func orNull(s string) string {
	if s == "" {
		return "<NULL>"
	}
	return s
}

// waiting is the number of sessions with held bytes.
func (g *rig) waiting() int {
	n := 0
	for _, r := range g.relays() {
		if r.View.Waits() {
			n++
		}
	}
	return n
}

func TestCancelOfAHeldUnit(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c := g.rawDial(t)
	_, err := g.Pause(within(t), 1, time.Second)
	require.NoError(t, err)
	b := wire.AppendParse(nil, "", "SELECT 1", nil)
	b = wire.AppendSync(wire.AppendExecute(wire.AppendBind(b, "", "", nil, nil, nil), "", 0))
	b = wiretest.AppendQuery(b, "SELECT 2")
	c.send(b)
	eventually(t, "it is held", func() bool { return g.waiting() == 1 })
	g.sessions.Cancel(t.Context(), c.pid, c.key)
	answer := c.until('Z')
	require.Equal(t, "EZ", shape(answer))
	e, err := wire.DecodeError(answer[0].Body)
	require.NoError(t, err)
	require.Equal(t, pg.CodeQueryCanceled, e.Code)
	require.NoError(t, g.Resume(within(t), 1))
	answer = c.until('Z')
	require.Equal(t, "TDCZ", shape(answer), "the unit behind it is whole")
	cols, err := wire.DecodeDataRow(nil, answer[1].Body)
	require.NoError(t, err)
	require.Equal(t, "2", string(cols[0]))
}

func TestServerThatDiesWhileParked(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	idle, waiting, stays := g.rawDial(t), g.rawDial(t), g.rawDial(t)
	_, err := g.Pause(within(t), 1, time.Second)
	require.NoError(t, err)
	waiting.send(wiretest.AppendQuery(nil, "SELECT 1"))
	eventually(t, "it is held", func() bool { return g.waiting() == 1 })
	pids := g.ServerPIDs()
	run(t, pgxAdmin(t, g), "SELECT pg_terminate_backend(p) FROM unnest($1::int[]) p", pids[:2])
	require.Equal(t, pg.CodeAdminShutdown, idle.gone().Code)
	require.Equal(t, pg.CodeAdminShutdown, waiting.gone().Code)
	_, err = g.Restage(within(t), 1)
	require.NoError(t, err)
	_, err = g.Switch(within(t), 1, Target)
	require.NoError(t, err)
	require.Equal(t, "TDCZ", stays.query("SELECT 1"))
}

func TestWarmServerThatDies(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c := g.rawDial(t)
	require.Equal(t, "CZ", c.query("SET app.x = 'kept'")[len("CZ")-2:])
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN("postgres"))
	kill := func() {
		run(t, admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", g.target.Database())
		eventually(t, "it is dead", func() bool {
			return value(t, admin, "SELECT count(*) FROM pg_stat_activity WHERE datname = $1", g.target.Database()) == "0"
		})
	}
	ctx := within(t)
	_, err := g.Stage(ctx, 1)
	require.NoError(t, err)
	kill()
	_, err = g.Pause(ctx, 1, time.Second)
	require.NoError(t, err)
	_, err = g.Restage(ctx, 1)
	require.NoError(t, err, "a new one is made in the pause")
	kill()
	report, err := g.Switch(ctx, 1, Target)
	require.NoError(t, err)
	require.Zero(t, report.ClientErrors, "%v", report.Failed)
	c.send(wiretest.AppendQuery(nil, "SELECT current_setting('app.x'), current_database()"))
	frames := c.until('Z')
	for _, f := range frames {
		if f.Type == 'D' {
			cols, err := wire.DecodeDataRow(nil, f.Body)
			require.NoError(t, err)
			require.Equal(t, "kept", string(cols[0]))
			require.Equal(t, g.target.Database(), string(cols[1]))
		}
	}
}
