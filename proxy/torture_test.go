package proxy

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/session"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

func TestUnitsAcrossThePause(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.both(t, "CREATE TABLE public.t (id int)")
	c := g.rawDial(t)
	unit := func(sql string) []byte {
		b := wire.AppendParse(nil, "", sql, nil)
		return wire.AppendExecute(wire.AppendBind(b, "", "", nil, nil, nil), "", 0)
	}
	for _, k := range []struct {
		name          string
		before, after []byte
		answer        string // to everything, across the pause
		behind        []byte // held until the switch
		last          string
	}{
		{
			"copy in, simple", wiretest.AppendQuery(nil, "COPY public.t FROM STDIN"),
			wire.AppendFrame(wire.AppendFrame(nil, 'd', []byte("1\n2\n")), 'c', nil), "GCZ",
			wiretest.AppendQuery(nil, "SELECT 1"), "TDCZ",
		},
		{
			"copy in, extended, its sync swallowed", wire.AppendSync(unit("COPY public.t FROM STDIN")),
			wire.AppendSync(wire.AppendFrame(wire.AppendFrame(nil, 'd', []byte("3\n")), 'c', nil)), "12GCZ",
			wiretest.AppendQuery(nil, "SELECT 1"), "TDCZ",
		},
		{
			"copy in that fails", wiretest.AppendQuery(nil, "COPY public.t FROM STDIN"),
			wire.AppendFrame(wire.AppendFrame(nil, 'd', []byte("x\n")), 'c', nil), "GEZ",
			wiretest.AppendQuery(nil, "SELECT 1"), "TDCZ",
		},
		{
			"flush without sync", wiretest.AppendFlush(unit("SELECT 1")), wire.AppendSync(nil), "12DCZ",
			wire.AppendSync(unit("SELECT 2")), "12DCZ",
		},
		{
			"transaction in a pipeline", wiretest.AppendQuery(wiretest.AppendQuery(nil, "BEGIN"), "SELECT 1"),
			wiretest.AppendQuery(wire.AppendSync(unit("SELECT 2")), "COMMIT"), "CZTDCZ12DCZCZ",
			wire.AppendSync(unit("SELECT 3")), "12DCZ",
		},
		{
			"error in a pipeline", wiretest.AppendFlush(unit("SELECT 1/0")), wire.AppendSync(unit("SELECT 1")), "1EZ",
			wiretest.AppendQuery(wiretest.AppendQuery(nil, "SELECT 1"), ""), "TDCZIZ",
		},
	} {
		frames := func(want string) {
			t.Helper()
			var got string
			for len(got) < len(want) {
				got += string(c.next().Type)
			}
			require.Equal(t, want, got, k.name)
		}
		pausedWith := strings.IndexAny(k.answer, "GD")
		c.send(k.before)
		if pausedWith < 0 || strings.HasPrefix(k.name, "error") {
			pausedWith = strings.IndexByte(k.answer, 'E')
		}
		if strings.HasPrefix(k.name, "transaction") {
			pausedWith = strings.Index(k.answer, "TDCZ") + 3
		}
		frames(k.answer[:pausedWith+1])
		g.epoch++
		ctx := within(t)
		paused := make(chan error, 1)
		go func() {
			_, err := g.Pause(context.Background(), g.epoch, 30*time.Second)
			paused <- err
		}()
		g.awaitHeld(t)
		for part := range slices.Chunk(append(bytes.Clone(k.after), k.behind...), 3) {
			c.send(part)
		}
		frames(k.answer[pausedWith+1:])
		require.NoError(t, <-paused, k.name)
		eventually(t, "the rest is held", func() bool { return g.waiting() == 1 })
		_, err := g.Restage(ctx, g.epoch)
		require.NoError(t, err, k.name)
		report, err := g.Switch(ctx, g.epoch, g.sides.Other().Name)
		require.NoError(t, err)
		require.Zero(t, report.ClientErrors, "%v", report.Failed)
		require.Equal(t, 1, report.Held.Sessions, k.name)
		frames(k.last)
	}
	require.Equal(t, "3", value(t, pgtest.Conn(t, g.source), "SELECT sum(id) FROM public.t"), "of the first copy")
	require.Equal(t, "3", value(t, pgtest.Conn(t, g.target), "SELECT sum(id) FROM public.t"), "of the second copy")
}

func TestOneByteAtATime(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	c := g.rawDial(t)
	b := wiretest.AppendQuery(nil, "SET app.slow = 'x'")
	b = wire.AppendSync(wire.AppendParse(b, "named", "SELECT $1::int", nil))
	for i := range b {
		c.send(b[i : i+1])
		if i == 10 {
			g.epoch++
			report, err := g.Stage(within(t), g.epoch)
			require.NoError(t, err)
			require.Len(t, report.Unstaged, 1)
			require.Equal(t, wire.ReasonPartial, report.Unstaged[0].Detail)
		}
	}
	require.Equal(t, "CZ", shape(c.until('Z')))
	require.Equal(t, "1Z", shape(c.until('Z')))
	g.toTarget(t)
	require.Contains(t, c.query("SELECT current_setting('app.slow')"), "D")
}

func TestAnUncertainCountIsSettledByTheServersWord(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.both(t, "CREATE TABLE public.t (id int)")
	c := g.rawDial(t)
	// A Sync that is sent into a COPY which fails may be answered or not.
	b := wire.AppendParse(nil, "", "COPY public.t FROM STDIN", nil)
	c.send(wire.AppendSync(wire.AppendExecute(wire.AppendBind(b, "", "", nil, nil, nil), "", 0)))
	c.until('G')
	c.send(wire.AppendSync(wire.AppendFrame(nil, 'd', []byte("x\n"))))
	c.until('E')
	c.send(wire.AppendSync(nil))
	c.until('Z')
	r := g.relays()[0]
	lost := session.DoorOf(r).Reason
	if lost() == "" {
		session.DoorOf(r).LoseCount()
	}
	require.Equal(t, wire.ReasonUncertain, lost())
	g.toTarget(t)
	require.Empty(t, lost())
	// After a Sync that both sides saw, the answers fit again.
	c.send(wiretest.AppendQuery(nil, "SELECT 'mark'"))
	for {
		f := c.next()
		if f.Type == 'D' {
			break
		}
		require.Contains(t, "ZT", string(f.Type))
	}
	require.Equal(t, "CZ", shape(c.until('Z')))
}
