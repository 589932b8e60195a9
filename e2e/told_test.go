package e2e_test

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/check"
	"crossfade/internal/app/control"
	"crossfade/internal/app/options"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// readJSON runs a command that prints JSON and reads that.
func readJSON[T any](t *testing.T, p *process, args ...string) (into T, code int) {
	t.Helper()
	c := p.begin(args...)
	code = c.wait()
	out := c.out.String()
	require.NoError(t, json.Unmarshal([]byte(out[max(0, strings.LastIndex(strings.TrimSpace(out), "\n")):]), &into), out) // after the steps, which go to stderr
	return into, code
}

// following starts a run over one table and waits until it follows.
func following(t *testing.T, s *sides) *process {
	t.Helper()
	pgtest.Exec(t, pgtest.Conn(t, s.source), "CREATE TABLE public.kept (id int PRIMARY KEY, v text); INSERT INTO public.kept VALUES (1, 'x')")
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	awaitFence(t, s)
	return p
}

// TestADatabaseThatIsDownIsNamed stops one side after the other: one blocker says which, in status and in the refusal of a cutover.
func TestADatabaseThatIsDownIsNamed(t *testing.T) {
	t.Parallel()
	s := ownSides(t)
	p := following(t, s)
	for _, side := range []string{"target", "source"} {
		s.stop(t, side, pgcluster.Immediate)
		st := p.await("the "+side+" is missed", func(st control.Status) bool {
			return slices.ContainsFunc(st.Blockers, func(b control.Blocker) bool { return b.Code == "stream_cut_off" })
		})
		require.Equal(t, "following", st.Phase)
		require.Len(t, st.Blockers, 1, "it is told once: %+v", st.Blockers)
		require.Contains(t, st.Blockers[0].Detail, "cut off from the "+side)
		require.Equal(t, side+"_away", st.Replication.State)
		require.Contains(t, st.Blockers[0].Remedy, "make the "+side+" reachable")
		refused, code := readJSON[control.Error](t, p, "cutover", "--json")
		require.Equal(t, 1, code)
		require.Equal(t, control.CodeRefused, refused.Code)
		require.Contains(t, refused.Message, "cut off from the "+side)
		require.Len(t, refused.Blockers, 1)
		s.begin(t, side)
		p.awaitFollowing()
	}
	require.Equal(t, 0, p.stop())
}

// TestAnActiveSideThatIsDownIsTold takes away the side that serves the applications: before the switch, after it, and after finish, where
// nobody looks but an application.
func TestAnActiveSideThatIsDownIsTold(t *testing.T) {
	t.Parallel()
	s := ownSides(t)
	p := following(t, s)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tell := func(side string, knock func()) control.Status {
		_, err := p.client.Health(ctx)
		require.NoError(t, err)
		s.stop(t, side, pgcluster.Immediate)
		knock()
		st := p.await("the "+side+" is missed", func(st control.Status) bool { return st.ActiveAway != "" })
		require.Contains(t, st.ActiveAway, "the "+side+" has not answered since")
		_, err = p.client.Health(ctx)
		require.ErrorContains(t, err, "the applications have no database: ")
		out, code := s.say(t, nil, "status", "--control="+p.socket)
		require.Equal(t, 3, code, out)
		require.Contains(t, out, "active "+side+" (away) |")
		s.begin(t, side)
		p.await("the "+side+" is back", func(st control.Status) bool {
			return st.ActiveAway == "" && !slices.ContainsFunc(st.Blockers, func(b control.Blocker) bool { return b.Code == "target_away" })
		})
		_, err = p.client.Health(ctx)
		require.NoError(t, err, "it goes by itself")
		return st
	}
	once := func(st control.Status) {
		require.Len(t, st.Blockers, 1, "%+v", st.Blockers)
		require.Equal(t, "target_away", st.Blockers[0].Code)
	}
	tell("source", func() {})
	p.awaitFollowing()
	p.cutoverPatiently()
	p.awaitWhole()
	once(tell("target", func() {}))
	p.finish()
	once(tell("target", func() {
		_, err := pg.Connect(ctx, p.proxied())
		require.Error(t, err)
	}))
	require.Equal(t, 0, p.stop())
}

// TestACutoverWhileTheStreamLagsSaysSo stops the server that applies.
func TestACutoverWhileTheStreamLagsSaysSo(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the cutover waits for the stream to catch up")
	}
	s := ownSides(t) // while a server of a cluster is stopped, nobody can create or drop a database there
	p := following(t, s)
	pid, err := strconv.Atoi(pgtest.Value(t, adminOf(t, s.targetCluster, "postgres"),
		"SELECT pid::text FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'crossfade apply%'", s.target.Database()))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	pgtest.Exec(t, pgtest.Conn(t, s.source), "INSERT INTO public.kept VALUES (2, 'late')")
	p.await("the stream lags", func(st control.Status) bool { return st.Replication.LagMS > 5000 })
	for outcome, args := range map[string][]string{string(control.OutcomePlanned): {"cutover", "--dry-run", "--json"}, string(control.OutcomeAborted): {"cutover", "--attempts=1", "--json"}} {
		r, code := readJSON[control.CutoverReport](t, p, args...)
		require.Equal(t, 1, code)
		require.EqualValues(t, outcome, r.Outcome)
		require.Regexp(t, "the stream is .* behind, at most ", r.Reason)
		require.NotContains(t, r.Reason, "lane")
		for _, a := range r.Attempts {
			require.Zero(t, a.ClosedAt)
		}
	}
}

// TestACutoverWhileTheStreamWaitsForALockIsRefused, and says who holds the lock.
func TestACutoverWhileTheStreamWaitsForALockIsRefused(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	p := following(t, s)
	writer := adminOf(t, s.targetCluster, s.target.Database())
	pgtest.Exec(t, writer, "SET application_name = 'nightly'")
	pgtest.Exec(t, writer, "BEGIN; LOCK TABLE public.kept IN EXCLUSIVE MODE")
	pgtest.Exec(t, pgtest.Conn(t, s.source), "INSERT INTO public.kept VALUES (2, 'late')")
	waits := func(b control.Blocker) bool { return b.Code == "stream_waits" }
	p.await("the holder is named", func(st control.Status) bool {
		return slices.ContainsFunc(st.Blockers, func(b control.Blocker) bool { return waits(b) && strings.Contains(b.Detail, "nightly") })
	})
	r, code := readJSON[control.Error](t, p, "cutover", "--attempts=1", "--json")
	require.Equal(t, 1, code)
	require.Equal(t, "refused", r.Code)
	require.True(t, slices.ContainsFunc(r.Blockers, waits))
	require.Regexp(t, `table public\.kept is locked by process \d+ of .*"nightly"`, r.Message)
	pgtest.Exec(t, writer, "COMMIT")
	p.await("the stream goes on", func(st control.Status) bool { return !slices.ContainsFunc(st.Blockers, waits) })
	p.awaitFollowing()
	require.Equal(t, 0, p.stop())
}

// TestADryRunTellsWhatTheCutoverWouldMeet has a session that cannot be moved, and transactions through the proxy and past it.
func TestADryRunTellsWhatTheCutoverWouldMeet(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	p := following(t, s)
	temp, open, past := application(t, p, "0"), application(t, p, "0"), pgtest.Conn(t, s.source)
	pgtest.Exec(t, past, "SET application_name = 'nightly'")
	pgtest.Exec(t, temp, "CREATE TEMP TABLE mine (id int)")
	pgtest.Exec(t, open, "BEGIN; SELECT 's3cret'")
	r, code := readJSON[control.CutoverReport](t, p, "cutover", "--dry-run", "--json")
	require.Equal(t, 1, code)
	require.Equal(t, control.OutcomePlanned, r.Outcome)
	require.Contains(t, r.Reason, "1 sessions cannot be moved")
	require.Len(t, r.Unmovable, 1)
	require.Contains(t, r.Unmovable[0], `application "app"`)
	require.Contains(t, r.Unmovable[0], "temp")
	require.Len(t, r.Transactions, 1)
	require.Contains(t, r.Transactions[0], `application "app", through the proxy), in a transaction open for `)
	require.Contains(t, r.Transactions[0], "last statement: BEGIN; SELECT ?")
	require.Len(t, r.Bypass, 1)
	require.Contains(t, r.Bypass[0], `application "nightly"`)
	require.Greater(t, r.EstimateLeastMS, 20.0)
	require.Greater(t, r.EstimateMostMS, r.EstimateLeastMS)
	require.Empty(t, r.Attempts)

	pgtest.Exec(t, temp, "DISCARD TEMP")
	c := p.begin("cutover", "--dry-run")
	require.Zero(t, c.wait(), c.out.String())
	require.Contains(t, c.out.String(), "open transaction: process ")
	require.Contains(t, c.out.String(), "estimated pause: ")
	require.NotContains(t, c.out.String(), "refused")

	// In earnest: the transaction keeps the drain from ending, and is named with all that is to be known of it.
	// The question has a short bound, since clients wait meanwhile: a busy machine may not answer it.
	for range 20 {
		r, code = readJSON[control.CutoverReport](t, p, "cutover", "--attempts=1", "--drain-timeout=200ms", "--json")
		require.Equal(t, 1, code)
		require.Contains(t, r.Reason, `(application "app", server process `)
		if strings.Contains(r.Reason, "in transaction; open for ") {
			break
		}
	}
	require.Contains(t, r.Reason, "in transaction; open for ")
	require.Len(t, r.Attempts, 1)
	require.NotZero(t, r.Attempts[0].PauseMS)

	// A writer past the proxy is met before the gate is closed.
	pgtest.Exec(t, open, "COMMIT")
	pgtest.Exec(t, past, "BEGIN; UPDATE public.kept SET v = 's3cret'")
	r, code = readJSON[control.CutoverReport](t, p, "cutover", "--attempts=1", "--json")
	require.Equal(t, 1, code)
	require.Contains(t, r.Reason, "table public.kept is locked by process ")
	require.Contains(t, r.Reason, `(application "nightly", from `)
	require.Len(t, r.Attempts, 1)
	require.Zero(t, r.Attempts[0].ClosedAt, "nobody was held")
	pgtest.Exec(t, past, "COMMIT")
	p.awaitFollowing()

	r, code = readJSON[control.CutoverReport](t, p, "cutover", "--json")
	require.Zero(t, code)
	require.Equal(t, control.OutcomeSwitched, r.Outcome)
	for _, e := range r.Timeline {
		require.False(t, e.At.IsZero(), e.Step)
		require.Equal(t, 1, e.Attempt, e.Step)
	}
	for _, args := range [][]string{{"cutover", "--json"}, {"cutover", "--dry-run", "--json"}} {
		refused, code := readJSON[control.Error](t, p, args...)
		require.Equal(t, 1, code)
		require.Contains(t, refused.Message, "the target is active already (epoch ")
		require.Contains(t, refused.Remedy, "crossfade finish")
	}
	require.Equal(t, 0, p.stop())
}

// TestARunTakesNoMoreConnectionsThanCheckSays samples the sessions of the program on both sides from the copy to the proof.
func TestARunTakesNoMoreConnectionsThanCheckSays(t *testing.T) {
	t.Parallel()
	s := ownSides(t)
	ctx, cancel := context.WithCancel(context.Background())
	var sampling sync.WaitGroup
	var most [2]int
	var names [2]string
	for i, conn := range []*pgx.Conn{adminOf(t, s.sourceCluster, s.source.Database()), adminOf(t, s.targetCluster, s.target.Database())} {
		sampling.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				var n int
				var who string
				_ = conn.QueryRow(ctx, `SELECT count(*), coalesce(string_agg(application_name, ', ' ORDER BY application_name), '') FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'crossfade%' AND application_name <> 'crossfade test'`).Scan(&n, &who)
				if n > most[i] {
					most[i], names[i] = n, who
				}
			}
		})
	}
	p := following(t, s)
	p.cutoverPatiently()
	p.awaitWhole()
	cancel()
	sampling.Wait()
	took := check.OwnSessions(options.DefaultJobs())
	for i, side := range []string{"source", "target"} {
		require.LessOrEqual(t, most[i], took[i], "%s: %s", side, names[i])
		require.Greater(t, most[i], took[i]/2, "the figure is no guess: %s: %s", side, names[i])
	}
	require.Equal(t, 0, p.stop())
}

// TestAPauseIsAboutWhatTheDryRunHasEstimated compares a pause with the estimate of the moment before it. A machine that
// does much else may take a few times the most; where the estimate forgets something, the pause is longer than that.
func TestAPauseIsAboutWhatTheDryRunHasEstimated(t *testing.T) {
	t.Parallel()
	p := following(t, newSides(t))
	application(t, p, "0")
	planned, code := readJSON[control.CutoverReport](t, p, "cutover", "--dry-run", "--json")
	require.Zero(t, code, planned.Reason)
	require.Positive(t, planned.EstimateLeastMS)
	require.Greater(t, planned.EstimateMostMS, planned.EstimateLeastMS)
	r := p.cutoverPatiently()
	require.Positive(t, r.PauseMS)
	require.Less(t, r.PauseMS, 4*planned.EstimateMostMS, "estimated: %.0f to %.0f ms", planned.EstimateLeastMS, planned.EstimateMostMS)
	require.Equal(t, 0, p.stop())
}
