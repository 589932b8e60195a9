package e2e_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/control"
	"crossfade/internal/neonlike/neontest"
	"crossfade/internal/pg"
	"crossfade/internal/pgcluster/pgtest"
)

// TestTheSourcesDiskComesFirst lets the target stand still until the WAL that the
// source keeps for the migration has used the budget up.
func TestTheSourcesDiskComesFirst(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	lockSchema(t, s)
	p := newProcess(t, s, "--wal-budget=24M")
	p.start()
	st := p.awaitFollowing()
	require.EqualValues(t, 24<<20, st.Replication.WALBudgetBytes)
	require.Equal(t, "reserved", st.Replication.WALStatus)
	app := pgtest.Conn(t, p.proxied())

	stuck := pgtest.Conn(t, s.targetCluster.AdminDSN(s.target.Database()))
	pgtest.Exec(t, stuck, "BEGIN; LOCK TABLE public.hot IN ACCESS EXCLUSIVE MODE")
	pgtest.Exec(t, app, "UPDATE public.hot SET n = n + 1")
	const write = `INSERT INTO public.big SELECT i, repeat(md5(i::text), 10) FROM generate_series(`
	pgtest.Exec(t, app, write+"100001, 130000) i")
	st = p.await("the budget is half used", func(st control.Status) bool { return len(st.Warnings) > 0 })
	require.Equal(t, "wal_budget", st.Warnings[0].Code)
	pgtest.Exec(t, app, write+"200001, 250000) i")
	st = p.await("the migration is given up", func(st control.Status) bool { return len(st.Blockers) > 0 && st.Blockers[0].Code == "wal_budget" })
	require.False(t, st.Ready)
	require.Contains(t, st.Blockers[0].Detail, "its replication slot dropped")
	require.Contains(t, st.Blockers[0].Detail, "the source is unharmed")
	require.Contains(t, st.Blockers[0].Remedy, "crossfade clean")
	eventually(t, "the slot is gone", func() bool {
		return pgtest.Value(t, app, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == "0"
	})
	pgtest.Exec(t, app, "UPDATE public.hot SET n = n + 1") // the application is served on
	_, err := p.client.Cutover(t.Context(), control.CutoverOptions{})
	require.ErrorContains(t, err, "refused")
	pgtest.Exec(t, stuck, "ROLLBACK")
	require.Equal(t, 3, p.stop(), "it could not complete")

	// A new start says the same, and cannot mend it.
	p.start()
	st = p.await("it knows", func(st control.Status) bool { return len(st.Blockers) > 0 && st.Blockers[0].Code == "slot_lost" })
	require.Contains(t, st.Blockers[0].Detail, "is not on the source any more")
	require.Equal(t, 3, p.stop())
	out, code := s.say(t, nil, "clean")
	require.Equal(t, 0, code, out)
	s.requireNothingLeft(t)
}

// TestTheCopysRateIsChangedWhileItRuns begins with a rate at which the copy would
// never end.
func TestTheCopysRateIsChangedWhileItRuns(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	lockSchema(t, s)
	p := newProcess(t, s, "--max-rate=1k", "--jobs=1")
	p.start()
	st := p.await("rows are copied", func(st control.Status) bool { return st.Copy.BytesDone > 0 })
	require.Equal(t, "copying", st.Phase)
	require.EqualValues(t, 1024, st.Copy.MaxRateBytes)
	require.Less(t, st.Copy.TablesDone, st.Copy.TablesTotal)

	out, code := program(t, nil, "limits", "--control="+p.socket)
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "max-rate 1.0 KiB/s")
	out, code = program(t, nil, "limits", "--control="+p.socket, "--max-rate=fast")
	require.Equal(t, 2, code, out)
	require.Contains(t, out, "is no size")
	out, code = program(t, nil, "limits", "--json", "--control="+p.socket, "--max-rate=200M", "--wal-budget=50G")
	require.Equal(t, 0, code, out)
	var l control.Limits
	require.NoError(t, json.Unmarshal([]byte(out), &l))
	require.Equal(t, control.Limits{MaxRateBytes: 200 << 20, WALBudgetBytes: 50 << 30}, l)
	st = p.awaitFollowing()
	require.EqualValues(t, 200<<20, st.Copy.MaxRateBytes)
	require.EqualValues(t, 50<<30, st.Replication.WALBudgetBytes)
	require.Equal(t, 0, p.stop())
}

// A one-shot copy has a control socket where it is given one.
func TestTheRateOfACopyIsChangedWhileItRuns(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	lockSchema(t, s)
	p := newProcess(t, s)
	p.command = []string{"copy", "--control=" + p.socket, "--max-rate=1k", "--jobs=1"}
	p.start()
	st := p.await("rows are copied", func(st control.Status) bool { return st.Copy.BytesDone > 0 })
	require.Equal(t, "copying", st.Phase)
	require.EqualValues(t, 1024, st.Copy.MaxRateBytes)
	require.Less(t, st.Copy.TablesDone, st.Copy.TablesTotal)
	out, code := program(t, nil, "limits", "--control="+p.socket, "--wal-budget=1G")
	require.Equal(t, 1, code, out)
	out, code = program(t, nil, "limits", "--control="+p.socket, "--max-rate=none")
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "max-rate none")
	require.Equal(t, 0, p.wait())
	require.Equal(t, pgtest.Value(t, pgtest.Conn(t, s.source), "SELECT count(*) FROM public.big"), pgtest.Value(t, pgtest.Conn(t, s.target), "SELECT count(*) FROM public.big"))
}

// TestWhoHoldsTheSlotUpIsShown has the slot wait for an open transaction.
func TestWhoHoldsTheSlotUpIsShown(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t, pgtest.Source) // slots wait for every transaction of the server
	s := &sides{sourceCluster: c, targetCluster: neontest.Shared(t), source: pgtest.Database(t, c)}
	s.neon = neontest.Endpoint(t, s.targetCluster)
	s.target = neontest.Database(t, s.neon)
	lockSchema(t, s)
	open := pgtest.Conn(t, s.source, pg.WithName("nightly report"))
	pgtest.Exec(t, open, "BEGIN; UPDATE public.hot SET n = n + 1")
	p := newProcess(t, s)
	p.start()
	st := p.await("it is named", func(st control.Status) bool { return len(st.Warnings) > 0 })
	require.Equal(t, "slot_waits", st.Warnings[0].Code)
	require.Contains(t, st.Warnings[0].Detail, `application "crossfade nightly report"`)
	pgtest.Exec(t, open, "COMMIT")
	st = p.awaitFollowing()
	require.Empty(t, st.Warnings)
	require.Equal(t, 0, p.stop())
}
