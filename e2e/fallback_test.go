package e2e_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/history"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/internal/lab/workload"
)

// fallback asks for a fallback that must lead back to the source.
func (p *process) fallback() control.CutoverReport {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p.await("fallback lossless", func(s control.Status) bool { return s.Fallback.State == control.FallbackLossless })
	r, err := p.request(ctx, control.CutoverOptions{Back: true})
	require.NoError(p.t, err)
	require.Equal(p.t, control.OutcomeSwitched, r.Outcome, r.Reason)
	return r
}

// TestAllCheckersAreContentAcrossAFallback: what five applications wrote to the target after the switch is on the source
// after the fallback, and no client notices either.
func TestAllCheckersAreContentAcrossAFallback(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadCheckers(t, s)
	p := newProcess(t, s, "--fallback")
	p.start()
	p.awaitServing()
	all := startCheckers(t, p)
	p.awaitFollowing()
	all.await(20)
	p.cutover()
	all.await(20)
	back := p.fallback()
	all.await(20)
	all.stop()
	all.requireQuiet()
	require.Zero(t, back.ClientErrors)
	all.check(s.source, 2)
	require.Equal(t, "source", p.await("source", func(s control.Status) bool { return true }).Active)
	require.Equal(t, 0, p.stop())
}

// TestAllCheckersAreContentThereAndBackAndThere: the run goes on in the other direction as often as it is asked to,
// without a new copy.
func TestAllCheckersAreContentThereAndBackAndThere(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadCheckers(t, s)
	p := newProcess(t, s, "--fallback")
	p.start()
	p.awaitServing()
	all := startCheckers(t, p)
	p.awaitFollowing()
	changes := 0
	for range 2 {
		all.await(10)
		require.Zero(t, p.cutoverPatiently().ClientErrors)
		all.await(10)
		require.Zero(t, p.fallback().ClientErrors)
		changes += 2
	}
	all.await(10)
	p.cutoverPatiently()
	all.await(10)
	all.stop()
	all.requireQuiet()
	all.check(s.target, changes+1)
	p.awaitWhole()
	p.finish()
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}

// TestAFallbackIsKilled at each of its steps: the next start ends it or carries it through, as the journals of both
// sides say, and no ledger has lost or doubled anything.
func TestAFallbackIsKilled(t *testing.T) {
	t.Parallel()
	for point, active := range map[string]string{
		"cutover.arming":                "target",
		"cutover.before_fence_commit":   "target",
		"cutover.fenced":                "target",
		"cutover.deciding":              "target",
		"cutover.after_decision_commit": "source",
		"cutover.switched":              "source",
	} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			s := newSides(t)
			loadShop(t, s)
			p := newProcess(t, s, "--fallback")
			p.start()
			p.awaitServing()
			load := startShop(t, p, 4)
			p.awaitFollowing()
			p.cutover()
			p.kill()
			if point == "cutover.switched" { // the start itself passes it once
				p.start(point + "=kill@2")
			} else {
				p.start(point + "=kill")
			}
			p.awaitServing()
			p.await("fallback lossless", func(s control.Status) bool { return s.Fallback.State == control.FallbackLossless })
			asked := p.ask(control.CutoverOptions{Back: true})
			require.Equal(t, -1, p.wait(), "the program is killed")
			<-asked.done
			require.Error(t, asked.err)
			p.start()
			require.Equal(t, active, p.awaitServing().Active)
			if active == "target" { // and goes back when asked again
				p.fallback()
			}
			awaitEach(t, load, 5)
			res, err := history.Check(context.Background(), pgtest.Conn(t, s.source), stopClients(load).Operations, workload.Options(small, 2))
			require.NoError(t, err)
			require.NoError(t, res.Err())
			require.Len(t, res.Sides, 2)
			require.Equal(t, 0, p.stop())
		})
	}
}

// TestAFallbackIsRefusedWhileTheSourceLacksSomething: while it catches up, and for good when the target has dropped
// what its changes are read from.
func TestAFallbackIsRefusedWhileTheSourceLacksSomething(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	app := pgtest.Conn(t, s.source)
	pgtest.Exec(t, app, "CREATE TABLE t (id int PRIMARY KEY, v text)")
	admin := adminOf(t, s.targetCluster, s.target.Database())
	pgtest.Exec(t, admin, "BEGIN; SELECT pg_catalog.txid_current()") // which the slot has to wait for
	p := newProcess(t, s, "--fallback")
	p.start()
	p.awaitBlocker("way_back_pending")
	pgtest.Exec(t, admin, "ROLLBACK")
	p.awaitFollowing()
	p.cutover()
	p.await("fallback lossless", func(s control.Status) bool { return s.Fallback.State == control.FallbackLossless })
	refused := func(code, words string) {
		t.Helper()
		_, err := p.client.Cutover(context.Background(), control.CutoverOptions{Back: true})
		var no *control.Error
		require.ErrorAs(t, err, &no)
		require.Len(t, no.Blockers, 1)
		require.Equal(t, code, no.Blockers[0].Code)
		require.Contains(t, no.Blockers[0].Detail, words)
	}

	pgtest.Exec(t, app, "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
	moved := pgtest.Conn(t, p.proxied())
	pgtest.Exec(t, moved, "INSERT INTO t SELECT i, pg_catalog.repeat(pg_catalog.md5(i::text), 40) FROM pg_catalog.generate_series(1, 4000) i")
	p.await("the source lags", func(s control.Status) bool { return s.Fallback.State == control.FallbackCatchingUp })
	refused("way_back_behind", "the source is catching up with the target: ")
	pgtest.Exec(t, app, "ROLLBACK")
	p.await("fallback lossless", func(s control.Status) bool { return s.Fallback.State == control.FallbackLossless })
	require.Equal(t, "4000", pgtest.Value(t, app, "SELECT count(*) FROM t"))

	eventually(t, "the slot is dropped", func() bool {
		pgtest.Exec(t, admin, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database() AND active")
		_, err := admin.Exec(context.Background(), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()")
		return err == nil
	})
	gone := p.await("the way back is gone", func(s control.Status) bool { return s.Fallback.State == control.FallbackGone })
	require.NotEmpty(t, gone.Fallback.Detail)
	refused("no_way_back", "the source does not have what was written to the target: ")
	p.kill()
	p.start() // and a start finds the same
	p.awaitServing()
	p.await("the way back is gone", func(s control.Status) bool { return s.Fallback.State == control.FallbackGone })
	refused("no_way_back", "there is no way back any more")
	require.Equal(t, 0, p.stop())
}

// TestAFallbackThatWasAbortedLeavesTheTargetAsItWas: active, compared with the source, made whole, and ready to be
// finished.
func TestAFallbackThatWasAbortedLeavesTheTargetAsItWas(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	p := newProcess(t, s, "--fallback")
	p.start()
	p.awaitFollowing()
	p.cutover()
	p.await("fallback lossless", func(s control.Status) bool { return s.Fallback.State == control.FallbackLossless })
	open := pgtest.Conn(t, p.proxied())
	pgtest.Exec(t, open, "BEGIN; SELECT pg_catalog.txid_current()") // which the drain waits for
	r, err := p.client.Cutover(context.Background(), control.CutoverOptions{Back: true, DrainTimeoutMS: 100, Attempts: 1})
	require.NoError(t, err)
	require.Equal(t, control.OutcomeAborted, r.Outcome)
	require.NoError(t, open.Close(context.Background()))
	rehearsed, err := p.request(context.Background(), control.CutoverOptions{Back: true, Rehearse: true})
	require.NoError(t, err)
	require.Equal(t, control.OutcomeRehearsed, rehearsed.Outcome, rehearsed.Reason)
	p.kill()
	p.start()
	st := p.awaitServing()
	require.Equal(t, "target", st.Active)
	require.Equal(t, "on_target", st.Phase)
	p.awaitWhole()
	p.finish()
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}
