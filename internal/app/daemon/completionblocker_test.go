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
	"crossfade/internal/app/apptest"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/ports"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// A finish that waits for work after the switch names who holds its tables, and applications are
// not held for a transaction that will hardly end in that time.
func TestAFinishNamesWhoKeepsTheWorkAfterTheSwitchWaiting(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	holder := pgtest.Conn(t, b.TargetDSN, pg.WithKey("k"))
	pgtest.Exec(t, holder, "SET application_name = 'nightly'")
	pid := pgtest.Value(t, holder, "SELECT pg_backend_pid()")
	pgtest.Exec(t, holder, "BEGIN")
	pgtest.Exec(t, holder, "INSERT INTO public.a VALUES (1, 's3cret')")

	key := plan.Statement{Kind: "FK CONSTRAINT", Schema: "public", Name: "b b_a", SQL: "ALTER TABLE public.b\n    ADD CONSTRAINT b_a FOREIGN KEY (a_id) REFERENCES public.a (id);",
		Locks: []pg.Name{{Schema: "public", Name: "b"}, {Schema: "public", Name: "a"}}}
	var asked apptest.QuietCalls
	var said lockedBuffer
	d := bare(func(d *daemon) {
		d.core.verify = &ports.Verification{}
		d.core.left = &ports.Completion{Log: zerolog.New(&said)}
		d.core.migration = migration.New(migration.Config{Phase: journal.PhaseSwitched})
	})
	b.TargetPort.Left, b.TargetPort.Quiet, b.TargetPort.Whole, b.TargetPort.Unfinished = d.core.left, asked.Quiet, d.targetWhole, d.core.migration.Keys.Unfinished
	b.TargetPort.Plan = func(context.Context, *pgx.Conn) (*plan.DecisionSQL, error) {
		return &plan.DecisionSQL{After: []plan.Statement{key}}, nil
	}
	b.TargetPort.After = func(context.Context) error { return nil }
	b.TargetPort.Last = func(context.Context, *pgx.Conn) ([]finding.Finding, error) { return nil, nil }
	done := make(chan error, 1)
	go func() { done <- b.TargetPort.Complete(context.WithoutCancel(t.Context()), 1) }()

	status := cutover.Status{State: machine.State{Step: machine.Decided}, Active: machine.SideTarget, Verification: cutover.VerificationStatus{State: "done"}}
	waits := func() (detail, remedy string) {
		t.Helper()
		found := d.finisher.finishBlockers(status, nil)
		require.Len(t, found, 1, "told once")
		require.Equal(t, "target_not_whole", found[0].Code)
		return found[0].Detail, found[0].Remedy
	}
	tries := func(n int) func() bool { return func() bool { return d.core.left.Tries() >= n } }
	require.Eventually(t, tries(1), pgtest.Timeout, time.Millisecond)
	detail, remedy := waits()
	require.Contains(t, detail, "; the writers of public.b and public.a leave no moment for: ALTER TABLE public.b ADD CONSTRAINT b_a FOREIGN KEY (a_id) REFERENCES public.a (id); they are held by process "+pid+
		" of "+b.TargetDSN.User()+` (application "nightly", from `)
	require.Contains(t, detail, "in a transaction open for ")
	require.Contains(t, detail, "last statement: INSERT INTO public.a VALUES (?, ?)")
	require.NotContains(t, detail, "s3cret")
	require.Contains(t, remedy, "where the transactions that write to these tables end soon")

	require.Eventually(t, tries(6), pgtest.Timeout, time.Millisecond) // the last one asks for a moment of quiet
	require.Zero(t, asked.N.Load(), "nobody is held for a transaction that is open for so long")
	require.Equal(t, 1, strings.Count(said.String(), "waits for locks"), said.String())
	pgtest.Exec(t, holder, "COMMIT")
	require.NoError(t, <-done)
	require.Empty(t, d.finisher.finishBlockers(status, nil))
	require.Empty(t, d.core.left.Waiting())
	require.Equal(t, "1", pgtest.Value(t, b.Target, "SELECT count(*) FROM pg_constraint WHERE conname = 'b_a'"))
}
