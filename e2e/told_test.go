package e2e_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/control"
	"crossfade/internal/pgcluster"
	"crossfade/internal/pgcluster/pgtest"
)

// readJSON runs a command that prints JSON and reads that.
func readJSON[T any](t *testing.T, p *process, args ...string) (into T, code int) {
	t.Helper()
	c := p.begin(args...)
	code = c.wait()
	out := c.out.String()
	require.NoError(t, json.Unmarshal([]byte(out[max(0, strings.LastIndex(strings.TrimSpace(out), "\n")):]), &into), out) // behind the steps, which go to stderr
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

// TestACutoverWhileTheStreamLagsSaysSo keeps the stream from applying.
func TestACutoverWhileTheStreamLagsSaysSo(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the cutover waits for the stream to catch up")
	}
	s := newSides(t)
	p := following(t, s)
	stranger := adminOf(t, s.targetCluster, s.target.Database())
	pgtest.Exec(t, stranger, "BEGIN; LOCK TABLE public.kept IN EXCLUSIVE MODE")
	pgtest.Exec(t, pgtest.Conn(t, s.source), "INSERT INTO public.kept VALUES (2, 'late')")
	p.await("the stream lags", func(st control.Status) bool { return st.Replication.LagMS > 5000 })
	for outcome, args := range map[string][]string{control.OutcomePlanned: {"cutover", "--dry-run", "--json"}, control.OutcomeAborted: {"cutover", "--attempts=1", "--json"}} {
		r, code := readJSON[control.CutoverReport](t, p, args...)
		require.Equal(t, 1, code)
		require.Equal(t, outcome, r.Outcome)
		require.Regexp(t, "the stream is .* behind, at most ", r.Reason)
		require.NotContains(t, r.Reason, "lane")
		for _, a := range r.Attempts {
			require.Nil(t, a.ClosedAt)
		}
	}
	pgtest.Exec(t, stranger, "COMMIT")
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
	require.Greater(t, r.EstimateMS, 20.0)
	require.Less(t, r.EstimateMS, 2000.0)
	require.Empty(t, r.Attempts)

	pgtest.Exec(t, temp, "DISCARD TEMP")
	c := p.begin("cutover", "--dry-run")
	require.Zero(t, c.wait(), c.out.String())
	require.Contains(t, c.out.String(), "open transaction: process ")
	require.Contains(t, c.out.String(), "estimated pause: ")
	require.NotContains(t, c.out.String(), "refused")

	// In earnest: the transaction keeps the drain from ending, and is named with all that is to be known of it.
	r, code = readJSON[control.CutoverReport](t, p, "cutover", "--attempts=1", "--drain-timeout=200ms", "--json")
	require.Equal(t, 1, code)
	require.Contains(t, r.Reason, `(application "app", server process `)
	require.Contains(t, r.Reason, "in transaction; open for ")
	require.Len(t, r.Attempts, 1)
	require.NotNil(t, r.Attempts[0].PauseMS)

	// A writer past the proxy is met before the gate is closed.
	pgtest.Exec(t, open, "COMMIT")
	pgtest.Exec(t, past, "BEGIN; UPDATE public.kept SET v = 's3cret'")
	r, code = readJSON[control.CutoverReport](t, p, "cutover", "--attempts=1", "--json")
	require.Equal(t, 1, code)
	require.Contains(t, r.Reason, "table public.kept is locked by process ")
	require.Contains(t, r.Reason, `(application "nightly", from `)
	require.Len(t, r.Attempts, 1)
	require.Nil(t, r.Attempts[0].ClosedAt, "nobody was held")
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
