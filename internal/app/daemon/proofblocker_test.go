package daemon

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/apptest"
	"crossfade/internal/app/control"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/ports"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/catalog"
	"crossfade/schema/plan"
)

// Where applications were there first, rows that nobody wrote are still proved, tables
// that were judged before are not asked for again, and the rest is named.
func TestWhatCannotBeProvedAnyMoreIsNamed(t *testing.T) {
	t.Parallel()
	b := apptest.NewProofs(t)
	b.Decide()
	require.NoError(t, journal.SaveProofs(t.Context(), b.Target, 1, []journal.Proof{{Table: pg.Name{Schema: "public", Name: "a"}, Verdict: "equal"}}))
	pgtest.Exec(t, b.Target, "UPDATE public.a SET v = 'x'; DELETE FROM public.b WHERE id = 7")
	v := apptest.VerificationOf(b, b.SourceDSN)
	require.NoError(t, v.Start(t.Context(), 1))
	require.Equal(t, cutover.VerificationStatus{State: "not_provable", TablesDone: 2, TablesTotal: 2}, apptest.AwaitVerdict(t, v))
	left := v.Unproved()
	require.Len(t, left, 1)
	require.Equal(t, "b", left[0].Table.Name)
	require.Equal(t, []string{"gone (7)"}, left[0].Keys)
	require.Contains(t, left[0].Reason, "1 are not there any more; all others are equal")

	d := bare(func(d *daemon) {
		d.core.verify = v
		d.core.left = &ports.Completion{}
		d.core.migration = migration.New(migration.Config{Phase: journal.PhaseValid})
	})
	status := cutover.Status{State: machine.State{Step: machine.Decided}, Active: machine.SideTarget, Verification: v.Status()}
	found := d.finisher.finishBlockers(status, nil)
	require.Len(t, found, 1, "told once")
	require.Equal(t, "tables_not_proved", found[0].Code)
	require.Contains(t, found[0].Remedy, "crossfade finish --accept=public.b")
	require.NoError(t, d.finisher.refuseFinish(status, control.FinishOptions{Accept: []string{"public.b"}}), "as printed")
}

// Tables that are proved to differ refuse a finish by name, and the command that is
// printed finishes.
func TestADifferenceRefusesAFinishByName(t *testing.T) {
	t.Parallel()
	b := apptest.NewProofs(t)
	pgtest.Exec(t, b.Target, "UPDATE public.a SET v = 'other' WHERE id = 3; DELETE FROM public.b WHERE id = 9")
	v := apptest.VerificationOf(b, b.SourceDSN)
	d := bare(func(d *daemon) {
		d.core.verify = v
		d.core.left = &ports.Completion{}
		d.core.migration = migration.New(migration.Config{Phase: journal.PhaseValid})
	})
	status := func() cutover.Status {
		return cutover.Status{State: machine.State{Step: machine.Decided}, Active: machine.SideTarget, Verification: v.Status()}
	}
	codes := func(accept ...string) (all []string) {
		for _, x := range d.finisher.finishBlockers(status(), accept) {
			all = append(all, x.Code)
		}
		return all
	}
	require.Equal(t, []string{"verify_running"}, codes(), "nobody knows yet")
	require.Equal(t, "wait until it has ended; it begins by itself; crossfade finish --force ends the migration without the proof", d.finisher.finishBlockers(status(), nil)[0].Remedy)
	require.NoError(t, v.Open(t.Context(), 1))
	b.Decide()
	require.NoError(t, v.Start(t.Context(), 1))
	require.Equal(t, 2, apptest.AwaitVerdict(t, v).Differences)
	found := d.finisher.finishBlockers(status(), nil)
	require.Len(t, found, 1, "told once")
	require.Equal(t, "tables_differ", found[0].Code)
	for _, w := range []string{"table public.a: ", "changed (3)", "table public.b: 500 rows at the source, 499 at the target (missing (9))"} {
		require.Contains(t, found[0].Detail, w)
	}
	require.Contains(t, found[0].Remedy, "crossfade finish --accept=public.a --accept=public.b")
	var refusal *control.Error
	require.ErrorAs(t, d.finisher.refuseFinish(status(), control.FinishOptions{Accept: []string{"public.a"}}), &refusal)
	require.NotContains(t, refusal.Message, "public.a")
	require.NoError(t, d.finisher.refuseFinish(status(), control.FinishOptions{Accept: []string{"public.a", "public.b"}}), "as printed")
	require.Equal(t, []control.VerifyTable{
		{Table: "public.a", Verdict: "different", Reason: "500 rows at the source, 500 at the target, with different content", Keys: []string{"changed (3)"}},
		{Table: "public.b", Verdict: "different", Reason: "500 rows at the source, 499 at the target", Keys: []string{"missing (9)"}}}, verifyTables(v.Unproved()))
	require.Equal(t, "'a b'\\''c'", shellWord("a b'c"))
	d.core.migration.Schema.Take(&plan.Plan{}, &catalog.Database{Relations: []*catalog.Relation{{Kind: 'r', Persistence: 'p', Schema: "public", Rel: "equal"}}})
	require.NoError(t, d.finisher.refuseUnknownTables(t.Context(), status(), []string{"public.a", "public.equal"}))
	require.ErrorAs(t, d.finisher.refuseUnknownTables(t.Context(), status(), []string{"public.a", "nosuch.table"}), &refusal)
	require.Equal(t, control.CodeUsage, refusal.Code)
	require.Contains(t, refusal.Error(), "--accept=nosuch.table: no table of this name")
	busy := status()
	busy.Waiting = "foreign keys to be validated"
	require.Equal(t, "target_not_whole", d.finisher.finishBlockers(busy, nil)[0].Code, "a start does once more what was left")
	d.core.migration.Task.Phase = journal.PhaseSwitched
	require.Equal(t, []string{"target_not_whole"}, codes("public.a", "public.b"))
}

// Who asks for a finish too early is told to wait, and for how long where the pace of the
// comparison tells it.
func TestAFinishThatIsTooEarlyIsToldHowLongToWait(t *testing.T) {
	t.Parallel()
	v, running := &ports.Verification{}, cutover.VerificationStatus{State: "running", TablesDone: 1, TablesTotal: 3}
	d := bare(func(d *daemon) {
		d.core.verify = v
		d.core.left = &ports.Completion{}
		d.core.migration = migration.New(migration.Config{Phase: journal.PhaseValid})
	})
	told := func() control.Blocker {
		t.Helper()
		found := d.finisher.finishBlockers(cutover.Status{State: machine.State{Step: machine.Decided}, Active: machine.SideTarget, Verification: running}, nil)
		require.Len(t, found, 1, "told once")
		require.Equal(t, "verify_running", found[0].Code)
		require.True(t, strings.HasPrefix(found[0].Remedy, "wait"), found[0].Remedy)
		require.Contains(t, found[0].Detail, "1 of 3 tables done")
		return found[0]
	}
	require.Equal(t, "wait until it has ended; crossfade finish --force ends the migration without the proof", told().Remedy, "nobody knows its pace yet")
}
