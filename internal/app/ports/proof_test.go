package ports_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/internal/app/apptest"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// What was proved is in the journal: another start knows it without asking the source.
func TestAProofOutlivesTheProgram(t *testing.T) {
	t.Parallel()
	b := apptest.NewProofs(t)
	v := apptest.VerificationOf(b, b.SourceDSN)
	require.NoError(t, v.Open(t.Context(), 1))
	b.Decide()
	pgtest.Exec(t, b.Target, "DELETE FROM public.b") // by an application, after the snapshots
	require.NoError(t, v.Start(t.Context(), 1))
	require.Equal(t, cutover.VerificationStatus{State: "equal", TablesDone: 2, TablesTotal: 2}, apptest.AwaitVerdict(t, v))
	v.End()

	nowhere, err := pg.ParseDSN("postgresql://nobody@127.0.0.1:1/nowhere?connect_timeout=1")
	require.NoError(t, err)
	again := apptest.VerificationOf(b, nowhere)
	again.Reopen(t.Context(), 1, true)
	require.NoError(t, again.Start(t.Context(), 1))
	require.Equal(t, cutover.VerificationStatus{State: "equal", TablesDone: 2, TablesTotal: 2}, apptest.AwaitVerdict(t, again))
	require.NoError(t, v.Open(t.Context(), 2))
	require.Equal(t, cutover.VerificationStatus{State: "none"}, v.Status(), "another attempt begins with nothing")
}

// Other comparisons give way before a pause is prepared, and one that does not ends the attempt.
func TestOtherComparisonsGiveWayToACutover(t *testing.T) {
	t.Parallel()
	b := apptest.NewProofs(t)
	v := apptest.VerificationOf(b, b.SourceDSN)
	var holds error
	asked := 0
	v.GiveWay = func(context.Context) error {
		require.Empty(t, comparing(t, b.Source), "before anything is opened")
		asked++
		return holds
	}
	require.NoError(t, v.Prepare(t.Context()))
	require.Equal(t, 1, asked)
	require.NoError(t, v.Discard(t.Context()))
	require.Equal(t, 1, asked, "an attempt that ends asks nobody")
	require.Eventually(t, func() bool { return comparing(t, b.Source)+comparing(t, b.Target) == "" }, pgtest.Timeout, 10*time.Millisecond)
	holds = errors.New("it does not let go")
	require.ErrorIs(t, v.Prepare(t.Context()), holds)
}

// comparing are the sessions of comparisons at a side.
func comparing(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	return pgtest.Value(t, conn, `SELECT coalesce(string_agg(pid::text, ' ' ORDER BY pid), '') FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'crossfade verify%'`)
}

// The sessions of the snapshots are there before clients wait, and none is left where the
// attempt ends without a switch.
func TestSnapshotsAreTakenInSessionsThatWereReady(t *testing.T) {
	t.Parallel()
	b := apptest.NewProofs(t)
	v := apptest.VerificationOf(b, b.SourceDSN)
	require.NoError(t, v.Prepare(t.Context()))
	pids := [2]string{comparing(t, b.Source), comparing(t, b.Target)}
	require.NotContains(t, pids, "")
	require.NoError(t, v.Open(t.Context(), 1))
	require.Equal(t, pids, [2]string{comparing(t, b.Source), comparing(t, b.Target)}, "no session was opened for them")

	gone := func() bool { return comparing(t, b.Source)+comparing(t, b.Target) == "" }
	require.NoError(t, v.Discard(t.Context()))
	require.Eventually(t, gone, pgtest.Timeout, 10*time.Millisecond)
	require.NoError(t, v.Prepare(t.Context()))
	require.NotEmpty(t, comparing(t, b.Target))
	require.NoError(t, v.Discard(t.Context()))
	require.Eventually(t, gone, pgtest.Timeout, 10*time.Millisecond, "nor of those that nobody used")

	require.NoError(t, v.Prepare(t.Context()))
	pgtest.Exec(t, b.Source, "SELECT pg_terminate_backend("+comparing(t, b.Source)+", 5000)")
	require.NoError(t, v.Open(t.Context(), 1), "one that was ended meanwhile is replaced")
	b.Decide()
	require.NoError(t, v.Start(t.Context(), 1))
	require.Equal(t, "equal", apptest.AwaitVerdict(t, v).State)
}

// A start that comes after the decision takes the comparison up. What it opens before the
// applications are let in is as good as the snapshots that were lost.
func TestAComparisonIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	b := apptest.NewProofs(t)
	v := apptest.VerificationOf(b, b.SourceDSN)
	require.NoError(t, v.Open(t.Context(), 1))
	b.Decide()
	v.End() // the program is killed

	before := apptest.VerificationOf(b, b.SourceDSN)
	before.Reopen(t.Context(), 1, true)
	pgtest.Exec(t, b.Target, "UPDATE public.a SET v = 'x'; DELETE FROM public.b WHERE id = 1")
	require.NoError(t, before.Start(t.Context(), 1))
	require.Equal(t, "equal", apptest.AwaitVerdict(t, before).State)
}

// A snapshot that is lost with a server is taken once more, and not given up.
func TestAComparisonGoesOnWithNewSnapshots(t *testing.T) {
	t.Parallel()
	b := apptest.NewProofs(t)
	v := apptest.VerificationOf(b, b.SourceDSN)
	require.NoError(t, v.Open(t.Context(), 1))
	b.Decide()
	pgtest.Exec(t, b.Target, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%verify%' AND datname = current_database()`)
	require.NoError(t, v.Start(t.Context(), 1))
	require.Equal(t, "equal", apptest.AwaitVerdict(t, v).State)
}
