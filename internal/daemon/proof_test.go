package daemon

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/internal/control"
	"crossfade/internal/journal"
	"crossfade/internal/pg"
	"crossfade/internal/pgcluster/pgtest"
	"crossfade/replicate/verify"
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
	link := newLink(b.targetDSN)
	v := &verification{source: source, target: b.targetDSN, journal: link, log: zerolog.Nop(), tables: func(context.Context) ([]verify.Table, error) {
		return []verify.Table{{Name: pg.Name{Schema: "public", Name: "a"}, Columns: []string{"id", "v"}, Key: []string{"id"}},
			{Name: pg.Name{Schema: "public", Name: "b"}, Columns: []string{"id", "a_id"}, Key: []string{"id"}}}, nil
	}}
	b.t.Cleanup(func() {
		v.end()
		link.close()
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
	status := cutover.Status{State: cutover.State{Step: cutover.Decided}, Active: cutover.SideTarget, Verification: v.Status()}
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
		return cutover.Status{State: cutover.State{Step: cutover.Decided}, Active: cutover.SideTarget, Verification: v.Status()}
	}
	codes := func(accept ...string) (all []string) {
		for _, x := range d.finishBlockers(status(), accept) {
			all = append(all, x.Code)
		}
		return all
	}
	require.Equal(t, []string{"verify_running"}, codes(), "nobody knows yet")
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
	busy := status()
	busy.Waiting = "foreign keys to be validated"
	require.Equal(t, "target_not_whole", d.finishBlockers(busy, nil)[0].Code, "a start does once more what was left")
	d.migration.phase = journal.PhaseSwitched
	require.Equal(t, []string{"target_not_whole"}, codes("public.a", "public.b"))
}
