package proxy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

func TestWhatCannotMoveIsNamedWhileArming(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	for i, c := range []struct{ setup, code, undo string }{
		{"CREATE TEMP TABLE scratch (id int)", "temp_objects", "DROP TABLE scratch"},
		{"DECLARE c CURSOR WITH HOLD FOR SELECT 1", "held_cursors", "CLOSE c"},
		{"SELECT set_config(name, 'x', false) FROM (VALUES ('app.computed')) v(name)", "unknown_settings", ""},
	} {
		conn := g.dial(t)
		run(t, conn, c.setup)
		epoch := int64(10 * (i + 1))
		_, err := g.Stage(within(t), epoch)
		var unmovable *UnmovableError
		require.ErrorAs(t, err, &unmovable, c.setup)
		require.Len(t, unmovable.Sessions, 1)
		require.Equal(t, c.code, unmovable.Sessions[0].Code)
		_, err = g.Pause(within(t), epoch, time.Second)
		require.NoError(t, err)
		_, err = g.Restage(within(t), epoch)
		require.ErrorAs(t, err, &unmovable, c.setup)
		require.NoError(t, g.Resume(within(t), epoch))
		require.Equal(t, Source, g.side(t, conn), "it goes on at the source")
		if c.undo != "" {
			run(t, conn, c.undo)
			_, err = g.Stage(within(t), epoch+1)
			require.NoError(t, err)
		}
		require.NoError(t, conn.Close(within(t)))
		eventually(t, "it is gone", func() bool { return g.Status().Sessions == 0 })
	}
}

func TestWhatTheTargetLacksIsNamedWhileArming(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	pgtest.Exec(t, pgtest.Conn(t, g.source), "CREATE TABLE public.only_here (id int)")
	conn := g.dial(t)
	_, err := conn.Prepare(within(t), "mine", "SELECT * FROM public.only_here")
	require.NoError(t, err)
	_, err = g.Stage(within(t), 1)
	require.ErrorContains(t, err, `prepared statement "mine"`)
	require.ErrorContains(t, err, "only_here")
	run(t, conn, "SELECT 1")
}

func TestStatementsThatAreDeadAnywayStaySo(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	own := pgtest.Conn(t, g.source)
	run(t, own, "CREATE TABLE public.gone (id int)")
	c, d := g.rawDial(t), g.rawDial(t)
	c.send(wire.AppendSync(wire.AppendParse(nil, "dead", "SELECT * FROM public.gone", nil)))
	require.Equal(t, "1Z", shape(c.until('Z')))
	c.send(wire.AppendSync(wire.AppendParse(nil, "alive", "SELECT 5", nil)))
	require.Equal(t, "1Z", shape(c.until('Z')))
	d.send(wire.AppendSync(wire.AppendParse(nil, "", "SELECT * FROM public.gone", nil)))
	require.Equal(t, "1Z", shape(d.until('Z')))
	run(t, own, "DROP TABLE public.gone")
	g.toTarget(t)
	for _, one := range []struct {
		c            *raw
		name, answer string
	}{{c, "alive", "2DCZ"}, {c, "dead", "EZ"}, {d, "", "EZ"}} {
		one.c.send(wire.AppendSync(wire.AppendExecute(wire.AppendBind(nil, "", one.name, nil, nil, nil), "", 0)))
		require.Equal(t, one.answer, shape(one.c.until('Z')), one.name)
	}
}

func TestAStateThatCannotBeMadeWholeEndsItsSession(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	g.both(t, "CREATE TABLE public.t (id int)")
	bad, good := g.rawDial(t), g.rawDial(t)
	ctx := within(t)
	_, err := g.Stage(ctx, 1)
	require.NoError(t, err)
	bad.send(wire.AppendSync(wire.AppendParse(nil, "late", "SELECT id FROM public.t", nil)))
	require.Equal(t, "1Z", shape(bad.until('Z')))
	_, err = g.Pause(ctx, 1, time.Second)
	require.NoError(t, err)
	_, err = g.Restage(ctx, 1)
	require.NoError(t, err)
	pgtest.Exec(t, pgtest.Conn(t, g.target), "DROP TABLE public.t") // after everything that was tried
	bad.send(wiretest.AppendQuery(nil, "INSERT INTO public.t VALUES (1)"))
	report, err := g.Switch(ctx, 1, Target)
	require.NoError(t, err)
	require.Equal(t, 1, report.Moved)
	require.Equal(t, 1, report.ClientErrors)
	e := bad.gone()
	require.Equal(t, "57P01", e.Code)
	require.Contains(t, e.Message, `prepared statement "late"`)
	require.Equal(t, "TDCZ", good.query("SELECT 1"))
	require.EqualValues(t, 1, g.Status().ClientErrors)
	require.Equal(t, "0", value(t, pgtest.Conn(t, g.source), "SELECT count(*) FROM public.t"), "it never goes back to the source")
}
