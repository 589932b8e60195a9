package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/apptest"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestWhoWritesToTheTargetBeforeTheSwitchIsNoticed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := apptest.NewPortsFixture(t)
	require.NoError(t, journal.Seal(ctx, b.Target))
	s := &watch.TargetWriters{}
	codes := func() string {
		t.Helper()
		found, err := s.Ask(ctx, b.Source, b.Target)
		require.NoError(t, err)
		var all []string
		for _, n := range found {
			all = append(all, n.Code)
		}
		return strings.Join(all, " ")
	}
	ours, err := pg.Connect(ctx, b.TargetDSN, pg.WithName("apply"), pg.WithKey("k"))
	require.NoError(t, err)
	defer dbconn.CloseNow(ours)
	pgtest.Exec(t, ours, "BEGIN; INSERT INTO public.a VALUES (100, 0)")
	require.Empty(t, codes(), "what Crossfade writes is not reported as that of another writer")

	writer := pgtest.Conn(t, b.TargetDSN, pg.WithParam("application_name", "psql"))
	pgtest.Exec(t, writer, "BEGIN; CREATE TABLE public.mine (id int)")
	require.Equal(t, "target_writer", codes())
	found, err := s.Ask(ctx, b.Source, b.Target)
	require.NoError(t, err)
	require.Contains(t, apptest.Once(t, found, "target_writer", "told once").Detail, "psql")
	apptest.Typed(t, b.Target, found[0].Remedy, "target")
	require.Contains(t, found[0].Remedy, "; then "+watch.GoOnRun)
	require.Equal(t, "target_writer", codes(), "it is remembered")
	require.Eventually(t, func() bool {
		s = &watch.TargetWriters{} // as a run that was started again; its session ends a little later
		return codes() == ""
	}, pgtest.Timeout, 10*time.Millisecond)
	pgtest.Exec(t, ours, "ROLLBACK")
	writer = pgtest.Conn(t, b.TargetDSN, pg.WithParam("application_name", "psql"))

	// Taken away and put back as it was, in between of two looks.
	pgtest.Exec(t, writer, "ALTER TABLE public.a DISABLE TRIGGER "+journal.FenceTrigger+"; INSERT INTO public.a VALUES (101, 0); ALTER TABLE public.a ENABLE ALWAYS TRIGGER "+journal.FenceTrigger)
	require.Equal(t, "target_fence_touched", codes())
	pgtest.Exec(t, b.Target, `UPDATE crossfade.seal s SET version = t.xmin::text FROM pg_trigger t WHERE t.oid = s.trigger`)
	require.Empty(t, codes())
	pgtest.Exec(t, writer, "DROP TRIGGER "+journal.FenceTrigger+" ON public.b")
	require.NoError(t, journal.PrepareFence(ctx, b.Target, apptest.Patience, true))
	require.Equal(t, "target_fence_touched", codes(), "another one is not the one that was there")
	pgtest.Exec(t, b.Target, `DELETE FROM crossfade.seal`)
	pgtest.Exec(t, writer, journal.OpenFence)
	require.Equal(t, "target_fence_open", codes())
}
