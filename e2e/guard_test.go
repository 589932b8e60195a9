package e2e_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/neonlike/neontest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestTheSourcesDiskComesFirst lets the target stand still until the WAL that the
// source keeps for the migration has used the budget up.
func TestTheSourcesDiskComesFirst(t *testing.T) {
	t.Parallel()
	s := ownSides(t) // what other tests write counts against the budget too
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
	p.await("the budget is half used", func(st control.Status) bool {
		return slices.ContainsFunc(st.Warnings, func(b control.Blocker) bool { return b.Code == "wal_budget" })
	})
	pgtest.Exec(t, app, write+"200001, 250000) i")
	st = p.await("the migration is given up", func(st control.Status) bool { return len(st.Blockers) > 0 && st.Blockers[0].Code == "wal_budget" })
	require.False(t, st.Ready)
	require.Contains(t, st.Blockers[0].Detail, "its replication slot dropped")
	require.Contains(t, st.Blockers[0].Detail, "the source is unharmed")
	require.Contains(t, st.Blockers[0].Remedy, "crossfade clean")
	require.NotContains(t, st.Blockers[0].Detail, "start over", "the remedy is told once")
	eventually(t, "the slot is gone", func() bool {
		return pgtest.Value(t, app, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == "0"
	})
	pgtest.Exec(t, app, "UPDATE public.hot SET n = n + 1") // the application is served on
	_, err := p.client.Cutover(t.Context(), control.CutoverOptions{})
	require.ErrorContains(t, err, "refused")
	require.Equal(t, 1, strings.Count(err.Error(), "start over"), "%v", err)
	st = p.await("the guard has looked again", func(st control.Status) bool { return st.Replication.RetainedWALBytes == 0 })
	require.Empty(t, st.Warnings, "that the slot is gone follows from it")
	pgtest.Exec(t, stuck, "ROLLBACK")
	require.Equal(t, 3, p.stop(), "it could not complete")

	// A new start says the same, and cannot fix it.
	p.start()
	st = p.await("it knows", func(st control.Status) bool { return len(st.Blockers) > 0 && st.Blockers[0].Code == "slot_lost" })
	require.Contains(t, st.Blockers[0].Detail, "is not on the source any more")
	require.Len(t, st.Blockers, 1, "it is told once: %v", st.Blockers)
	require.Empty(t, st.Warnings)
	require.Equal(t, 3, p.stop())
	p.startsOver(st.Blockers[0].Remedy)
	require.Equal(t, 0, p.stop())
}

// startsOver types the commands of a remedy that has a stopped run start over, until it follows.
func (p *process) startsOver(remedy string) {
	p.t.Helper()
	commands := regexp.MustCompile(`start over: stop crossfade run, crossfade (clean), crossfade run( --[a-z-]+)?$`).FindStringSubmatch(remedy)
	require.NotNil(p.t, commands, remedy)
	out, code := p.s.say(p.t, nil, commands[1])
	require.Equal(p.t, 0, code, out)
	p.s.requireNothingLeft(p.t)
	if p.extra = nil; commands[2] != "" {
		p.extra = []string{strings.TrimSpace(commands[2])}
	}
	p.start()
	p.awaitFollowing()
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
	out, code := program(t, nil, "limits", "--control="+p.socket, "--wal-budget=1G", "--max-rate=none")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "a one-shot copy has no slot that could retain WAL")
	require.Contains(t, out, "leave --wal-budget out")
	for command, refused := range map[string]string{"cutover": "this is a one-shot copy, which nothing follows", "finish": "this is a one-shot copy"} {
		said, code := program(t, nil, command, "--control="+p.socket)
		require.Equal(t, 1, code, said)
		require.Equal(t, 1, strings.Count(said, refused), said)
	}
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
	require.Len(t, st.Warnings, 1, "told once")
	_, sql, _ := strings.Cut(st.Warnings[0].Remedy, "on the source: ")
	pgtest.Exec(t, pgtest.Conn(t, s.source), sql)
	st = p.awaitFollowing()
	require.Empty(t, st.Warnings)
	require.Equal(t, 0, p.stop())
}
