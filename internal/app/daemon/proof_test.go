package daemon

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/verify"
	"crossfade/schema/catalog"
	"crossfade/schema/plan"
)

// newProofs makes a bench whose tables have equal rows.
func newProofs(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	pgtest.Exec(t, b.source, "INSERT INTO public.a SELECT i, 'v' || i FROM generate_series(1, 500) i; INSERT INTO public.b SELECT i, i FROM generate_series(1, 500) i")
	pgtest.Exec(t, b.target, "SET crossfade.key = 'k'; INSERT INTO public.a SELECT i, 'v' || i FROM generate_series(1, 500) i; INSERT INTO public.b SELECT i, i FROM generate_series(1, 500) i")
	return b
}

func (b *bench) decide() {
	b.t.Helper()
	pgtest.Exec(b.t, b.target, "INSERT INTO crossfade.decision (epoch, decision) VALUES (1, 'commit')")
}

// verification is one as a start of the program has it.
func (b *bench) verification(source pg.DSN) *verification {
	link := dbconn.New(b.targetDSN)
	v := &verification{source: source, target: b.targetDSN, journal: link, log: zerolog.Nop(), tables: func(context.Context) ([]verify.Table, error) {
		return []verify.Table{{Name: pg.Name{Schema: "public", Name: "a"}, Columns: []string{"id", "v"}, Key: []string{"id"}},
			{Name: pg.Name{Schema: "public", Name: "b"}, Columns: []string{"id", "a_id"}, Key: []string{"id"}}}, nil
	}}
	b.t.Cleanup(func() {
		v.end()
		link.Close()
	})
	return v
}

func awaitVerdict(t *testing.T, v *verification) cutover.VerificationStatus {
	t.Helper()
	require.Eventually(t, func() bool { return v.ended() }, pgtest.Timeout, 10*time.Millisecond, "the comparison ends")
	return v.Status()
}

// What was proved is in the journal: another start knows it without asking the source.
func TestAProofOutlivesTheProgram(t *testing.T) {
	t.Parallel()
	b := newProofs(t)
	v := b.verification(b.sourceDSN)
	require.NoError(t, v.Open(t.Context(), 1))
	b.decide()
	pgtest.Exec(t, b.target, "DELETE FROM public.b") // by an application, after the snapshots
	require.NoError(t, v.Start(t.Context(), 1))
	require.Equal(t, cutover.VerificationStatus{State: "equal", TablesDone: 2, TablesTotal: 2}, awaitVerdict(t, v))
	v.end()

	nowhere, err := pg.ParseDSN("postgresql://nobody@127.0.0.1:1/nowhere?connect_timeout=1")
	require.NoError(t, err)
	again := b.verification(nowhere)
	again.reopen(t.Context(), 1, true)
	require.NoError(t, again.Start(t.Context(), 1))
	require.Equal(t, cutover.VerificationStatus{State: "equal", TablesDone: 2, TablesTotal: 2}, awaitVerdict(t, again))
	require.NoError(t, v.Open(t.Context(), 2))
	require.Equal(t, cutover.VerificationStatus{State: "none"}, v.Status(), "another attempt begins with nothing")
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
	b := newProofs(t)
	v := b.verification(b.sourceDSN)
	require.NoError(t, v.Prepare(t.Context()))
	pids := [2]string{comparing(t, b.source), comparing(t, b.target)}
	require.NotContains(t, pids, "")
	require.NoError(t, v.Open(t.Context(), 1))
	require.Equal(t, pids, [2]string{comparing(t, b.source), comparing(t, b.target)}, "no session was opened for them")

	gone := func() bool { return comparing(t, b.source)+comparing(t, b.target) == "" }
	require.NoError(t, v.Discard(t.Context()))
	require.Eventually(t, gone, pgtest.Timeout, 10*time.Millisecond)
	require.NoError(t, v.Prepare(t.Context()))
	require.NotEmpty(t, comparing(t, b.target))
	require.NoError(t, v.Discard(t.Context()))
	require.Eventually(t, gone, pgtest.Timeout, 10*time.Millisecond, "nor of those that nobody used")

	require.NoError(t, v.Prepare(t.Context()))
	pgtest.Exec(t, b.source, "SELECT pg_terminate_backend("+comparing(t, b.source)+", 5000)")
	require.NoError(t, v.Open(t.Context(), 1), "one that was ended meanwhile is replaced")
	b.decide()
	require.NoError(t, v.Start(t.Context(), 1))
	require.Equal(t, "equal", awaitVerdict(t, v).State)
}

// A start that comes after the decision takes the comparison up. What it opens before the
// applications are let in is as good as the snapshots that were lost.
func TestAComparisonIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	b := newProofs(t)
	v := b.verification(b.sourceDSN)
	require.NoError(t, v.Open(t.Context(), 1))
	b.decide()
	v.end() // the program is killed

	before := b.verification(b.sourceDSN)
	before.reopen(t.Context(), 1, true)
	pgtest.Exec(t, b.target, "UPDATE public.a SET v = 'x'; DELETE FROM public.b WHERE id = 1")
	require.NoError(t, before.Start(t.Context(), 1))
	require.Equal(t, "equal", awaitVerdict(t, before).State)
}

// Where applications were there first, rows that nobody wrote are still proved, tables
// that were judged before are not asked for again, and the rest is named.
func TestWhatCannotBeProvedAnyMoreIsNamed(t *testing.T) {
	t.Parallel()
	b := newProofs(t)
	b.decide()
	require.NoError(t, journal.SaveProofs(t.Context(), b.target, 1, []journal.Proof{{Table: pg.Name{Schema: "public", Name: "a"}, Verdict: "equal"}}))
	pgtest.Exec(t, b.target, "UPDATE public.a SET v = 'x'; DELETE FROM public.b WHERE id = 7")
	v := b.verification(b.sourceDSN)
	require.NoError(t, v.Start(t.Context(), 1))
	require.Equal(t, cutover.VerificationStatus{State: "not_provable", TablesDone: 2, TablesTotal: 2}, awaitVerdict(t, v))
	left := v.unproved()
	require.Len(t, left, 1)
	require.Equal(t, "b", left[0].Table.Name)
	require.Equal(t, []string{"gone (7)"}, left[0].Keys)
	require.Contains(t, left[0].Reason, "1 are not there any more; all others are equal")

	d := &daemon{verify: v, left: &completion{}, migration: &migration{phase: journal.PhaseValid}}
	status := cutover.Status{State: machine.State{Step: machine.Decided}, Active: machine.SideTarget, Verification: v.Status()}
	found := d.finishBlockers(status, nil)
	require.Len(t, found, 1, "told once")
	require.Equal(t, "tables_not_proved", found[0].Code)
	require.Contains(t, found[0].Remedy, "crossfade finish --accept=public.b")
	require.NoError(t, d.refuseFinish(status, control.FinishOptions{Accept: []string{"public.b"}}), "as printed")
}

// A snapshot that is lost with a server is taken once more, and not given up.
func TestAComparisonGoesOnWithNewSnapshots(t *testing.T) {
	t.Parallel()
	b := newProofs(t)
	v := b.verification(b.sourceDSN)
	require.NoError(t, v.Open(t.Context(), 1))
	b.decide()
	pgtest.Exec(t, b.target, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%verify%' AND datname = current_database()`)
	require.NoError(t, v.Start(t.Context(), 1))
	require.Equal(t, "equal", awaitVerdict(t, v).State)
}

// Tables that are proved to differ refuse a finish by name, and the command that is
// printed finishes.
func TestADifferenceRefusesAFinishByName(t *testing.T) {
	t.Parallel()
	b := newProofs(t)
	pgtest.Exec(t, b.target, "UPDATE public.a SET v = 'other' WHERE id = 3; DELETE FROM public.b WHERE id = 9")
	v := b.verification(b.sourceDSN)
	d := &daemon{verify: v, left: &completion{}, migration: &migration{phase: journal.PhaseValid}}
	status := func() cutover.Status {
		return cutover.Status{State: machine.State{Step: machine.Decided}, Active: machine.SideTarget, Verification: v.Status()}
	}
	codes := func(accept ...string) (all []string) {
		for _, x := range d.finishBlockers(status(), accept) {
			all = append(all, x.Code)
		}
		return all
	}
	require.Equal(t, []string{"verify_running"}, codes(), "nobody knows yet")
	require.Equal(t, "wait until it has ended; it begins by itself; crossfade finish --force ends the migration without the proof", d.finishBlockers(status(), nil)[0].Remedy)
	require.NoError(t, v.Open(t.Context(), 1))
	b.decide()
	require.NoError(t, v.Start(t.Context(), 1))
	require.Equal(t, 2, awaitVerdict(t, v).Differences)
	found := d.finishBlockers(status(), nil)
	require.Len(t, found, 1, "told once")
	require.Equal(t, "tables_differ", found[0].Code)
	for _, w := range []string{"table public.a: ", "changed (3)", "table public.b: 500 rows at the source, 499 at the target (missing (9))"} {
		require.Contains(t, found[0].Detail, w)
	}
	require.Contains(t, found[0].Remedy, "crossfade finish --accept=public.a --accept=public.b")
	var refusal *control.Error
	require.ErrorAs(t, d.refuseFinish(status(), control.FinishOptions{Accept: []string{"public.a"}}), &refusal)
	require.NotContains(t, refusal.Message, "public.a")
	require.NoError(t, d.refuseFinish(status(), control.FinishOptions{Accept: []string{"public.a", "public.b"}}), "as printed")
	require.Equal(t, []control.VerifyTable{
		{Table: "public.a", Verdict: "different", Reason: "500 rows at the source, 500 at the target, with different content", Keys: []string{"changed (3)"}},
		{Table: "public.b", Verdict: "different", Reason: "500 rows at the source, 499 at the target", Keys: []string{"missing (9)"}}}, verifyTables(v.unproved()))
	require.Equal(t, "'a b'\\''c'", shellWord("a b'c"))
	d.migration.catalog = &catalog.Database{Relations: []*catalog.Relation{{Kind: 'r', Persistence: 'p', Schema: "public", Rel: "equal"}}}
	d.migration.plan = &plan.Plan{}
	require.NoError(t, d.refuseUnknownTables(t.Context(), status(), []string{"public.a", "public.equal"}))
	require.ErrorAs(t, d.refuseUnknownTables(t.Context(), status(), []string{"public.a", "nosuch.table"}), &refusal)
	require.Equal(t, control.CodeUsage, refusal.Code)
	require.Contains(t, refusal.Error(), "--accept=nosuch.table: no table of this name")
	busy := status()
	busy.Waiting = "foreign keys to be validated"
	require.Equal(t, "target_not_whole", d.finishBlockers(busy, nil)[0].Code, "a start does once more what was left")
	d.migration.phase = journal.PhaseSwitched
	require.Equal(t, []string{"target_not_whole"}, codes("public.a", "public.b"))
}

// Who asks for a finish too early is told to wait, and for how long where the pace of the comparison tells it.
func TestAFinishThatIsTooEarlyIsToldHowLongToWait(t *testing.T) {
	t.Parallel()
	name := func(s string) pg.Name { return pg.Name{Schema: "public", Name: s} }
	v := &verification{state: cutover.VerificationStatus{State: "running", TablesDone: 1, TablesTotal: 3}, begun: time.Now().Add(-10 * time.Second),
		rest: []pg.Name{name("a"), name("b"), name("c")}, found: map[pg.Name]journal.Proof{name("a"): {Table: name("a"), Verdict: "equal"}}}
	db := &catalog.Database{Relations: []*catalog.Relation{{Schema: "public", Rel: "a", Bytes: 100}, {Schema: "public", Rel: "b", Bytes: 150}, {Schema: "public", Rel: "c", Bytes: 150}}}
	d := &daemon{verify: v, left: &completion{}, migration: &migration{phase: journal.PhaseValid, catalog: db}}
	told := func() control.Blocker {
		t.Helper()
		found := d.finishBlockers(cutover.Status{State: machine.State{Step: machine.Decided}, Active: machine.SideTarget, Verification: v.Status()}, nil)
		require.Len(t, found, 1, "told once")
		require.Equal(t, "verify_running", found[0].Code)
		require.True(t, strings.HasPrefix(found[0].Remedy, "wait"), found[0].Remedy)
		require.Contains(t, found[0].Detail, "1 of 3 tables done")
		return found[0]
	}
	require.Equal(t, "wait: at its pace it ends in about 30s; crossfade finish --force ends the migration without the proof", told().Remedy)
	v.begun = time.Now()
	require.Equal(t, "wait until it has ended; crossfade finish --force ends the migration without the proof", told().Remedy, "nobody knows its pace yet")
	v.begun, v.found = time.Now().Add(-time.Minute), map[pg.Name]journal.Proof{}
	require.NotContains(t, told().Remedy, "about")
}
