package proxy

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/session"
	"crossfade/proxy/wire/wiretest"
)

func TestDisconnectEndsWhatCannotMove(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	ctx := within(t)
	temp, late, busy, good := g.rawDial(t), g.rawDial(t), g.rawDial(t), g.rawDial(t)
	require.Equal(t, "CZ", temp.query("CREATE TEMP TABLE scratch (id int)"))
	require.NoError(t, g.Attempt(ctx, 1, UnmovableDisconnect, 0))
	report, err := g.Stage(ctx, 1)
	require.NoError(t, err)
	require.Len(t, report.Unmovable, 1)
	require.Equal(t, "temp_objects", report.Unmovable[0].Code)
	require.Zero(t, report.Disconnected)
	require.Equal(t, "CZ", temp.query("INSERT INTO scratch VALUES (1)"), "it goes on until the pause")
	require.Equal(t, "CZ", late.query("DECLARE c CURSOR WITH HOLD FOR SELECT 1"), "behind its staging")
	_, err = g.Pause(ctx, 1, 5*time.Second)
	require.NoError(t, err)
	busy.send(wiretest.AppendQuery(nil, "SELECT 1"))
	late.send(wiretest.AppendQuery(nil, "CREATE TABLE public.never (id int)"))
	eventually(t, "they are held", func() bool { return g.waiting() == 2 })
	report, err = g.Restage(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, 2, report.Disconnected)
	require.Len(t, report.Unmovable, 2)
	for c, names := range map[*raw]string{temp: `"scratch"`, late: "cursors WITH HOLD"} {
		e := c.gone()
		require.Equal(t, pg.CodeAdminShutdown, e.Code)
		require.Contains(t, e.Message, names)
	}
	moved, err := g.Switch(ctx, 1, Target)
	require.NoError(t, err)
	require.Equal(t, 2, moved.Moved)
	require.Zero(t, moved.ClientErrors)
	require.EqualValues(t, 2, g.Status().Disconnected)
	require.Zero(t, g.Status().ClientErrors)
	require.Equal(t, "TDCZ", shape(busy.until('Z')))
	require.Equal(t, "TDCZ", good.query("SELECT 1"))
	for _, side := range []pg.DSN{g.source, g.target} {
		require.Equal(t, "<NULL>", orNull(value(t, pgtest.Conn(t, side), "to_regclass('public.never')")), "what was held was run nowhere")
	}
}

func TestARehearsalNamesAndLeavesThem(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	ctx := within(t)
	temp, _ := g.dial(t), g.dial(t)
	run(t, temp, "CREATE TEMP TABLE scratch (id int)")
	require.NoError(t, g.Attempt(ctx, 1, UnmovableName, 0))
	_, err := g.Stage(ctx, 1)
	require.NoError(t, err)
	_, err = g.Pause(ctx, 1, 5*time.Second)
	require.NoError(t, err)
	report, err := g.Restage(ctx, 1)
	require.NoError(t, err)
	require.Len(t, report.Unmovable, 1)
	require.Zero(t, report.Disconnected)
	require.NoError(t, g.Resume(ctx, 1))
	require.Equal(t, "0", value(t, temp, "SELECT count(*) FROM scratch"))

	_, err = g.Stage(ctx, 2)
	var unmovable *UnmovableError
	require.ErrorAs(t, err, &unmovable, "a policy ends with its attempt")
}

func TestWaitLetsThemLetGo(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	ctx := within(t)
	temp := g.dial(t)
	run(t, temp, "CREATE TEMP TABLE scratch (id int)")
	require.NoError(t, g.Attempt(ctx, 1, UnmovableWait, time.Millisecond))
	_, err := g.Stage(ctx, 1)
	var held *HeldError
	require.ErrorAs(t, err, &held, "it was waited for, and did not let go")
	require.Len(t, held.Sessions, 1)
	require.Equal(t, "temp_objects", held.Sessions[0].Code)

	require.NoError(t, g.Attempt(ctx, 1, UnmovableWait, time.Minute))
	staged := make(chan error, 1)
	go func() {
		report, err := g.Stage(context.WithoutCancel(ctx), 1)
		if err == nil && report.Staged != 1 {
			err = &UnmovableError{}
		}
		staged <- err
	}()
	r := g.relays()[0]
	before := session.DoorOf(r).Frames()
	for range 3 {
		run(t, temp, "INSERT INTO scratch VALUES (1)")
	}
	require.Empty(t, staged, "it is waited for")
	run(t, temp, "DROP TABLE scratch")
	require.NoError(t, <-staged)
	require.Greater(t, session.DoorOf(r).Frames(), before)

	// After its staging it holds something again: the pause finds it, and ends.
	run(t, temp, "CREATE TEMP TABLE again (id int)")
	_, err = g.Pause(ctx, 1, 5*time.Second)
	require.ErrorAs(t, err, &held)
	require.False(t, g.Status().Closed)
	run(t, temp, "DROP TABLE again")
	_, err = g.Pause(ctx, 1, 5*time.Second)
	require.NoError(t, err)
	_, err = g.Restage(ctx, 1)
	require.NoError(t, err)
	_, err = g.Switch(ctx, 1, Target)
	require.NoError(t, err)
	require.Equal(t, Target, g.side(t, temp))
}

func TestWaitIsNotForWhatNeverMoves(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	conn := g.dial(t)
	run(t, conn, "SELECT set_config(name, 'x', false) FROM (VALUES ('app.computed')) v(name)")
	require.NoError(t, g.Attempt(within(t), 1, UnmovableWait, time.Hour))
	_, err := g.Stage(within(t), 1)
	var unmovable *UnmovableError
	require.ErrorAs(t, err, &unmovable)
	require.Error(t, g.Attempt(within(t), 1, "other", 0))
}
