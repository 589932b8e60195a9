package ports_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/apptest"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestFenceCommitsTriggersStepAndNonceTogether(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := apptest.NewPortsFixture(t)
	b.Pause(1)
	require.NoError(t, b.SourcePort.Prelock(ctx, 1, func(string) {}))
	r, err := b.SourcePort.Fence(ctx, 1, "nonce")
	require.NoError(t, err)
	require.Equal(t, 2, r.Tables)
	require.NotEmpty(t, r.LSN)
	f, run := b.SourceState()
	require.True(t, f.Shut && f.Enabled == f.Tables, "%+v", f)
	require.Equal(t, "fenced", run.Step)
	require.Equal(t, "nonce", run.Nonce)

	require.NoError(t, b.SourcePort.Unfence(ctx, 1))
	f, run = b.SourceState()
	require.False(t, f.Shut && f.Enabled == f.Tables, "%+v", f)
	require.Equal(t, "idle", run.Step)
	pgtest.Exec(t, b.Source, "INSERT INTO public.a VALUES (1, 'x')")
	require.ErrorIs(t, b.SourcePort.Unfence(ctx, 1), cutover.ErrConflict)
}

func TestALateFenceOfAnotherOwnerChangesNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := apptest.NewPortsFixture(t)
	b.Pause(1)
	require.NoError(t, b.SourcePort.Prelock(ctx, 1, func(string) {}))
	pgtest.Exec(t, b.Source, `UPDATE crossfade.run SET coordinator = 'somebody else'`)
	_, err := b.SourcePort.Fence(ctx, 1, "nonce")
	require.ErrorIs(t, err, cutover.ErrConflict)
	f, run := b.SourceState()
	require.Zero(t, f.Enabled)
	require.Equal(t, "pausing", run.Step)
}

func TestAWriterInFlightKeepsTheFenceOpenAndIsNotHeldUp(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := apptest.NewPortsFixture(t)
	b.Pause(1)
	writer := pgtest.Conn(t, b.SourceDSN)
	pgtest.Exec(t, writer, "BEGIN; INSERT INTO public.a VALUES (1, 'x')")
	_, err := b.SourcePort.Fence(ctx, 1, "nonce")
	require.ErrorIs(t, err, cutover.ErrLockTimeout)
	f, _ := b.SourceState()
	require.Zero(t, f.Enabled)
	pgtest.Exec(t, writer, "INSERT INTO public.a VALUES (2, 'y'); COMMIT")
	_, err = b.SourcePort.Fence(ctx, 1, "nonce")
	require.NoError(t, err)
	_, err = writer.Exec(ctx, "INSERT INTO public.a VALUES (3, 'z')")
	require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(err))
}

func TestATableWithoutFenceStopsTheFence(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	b.Pause(1)
	pgtest.Exec(t, b.Source, "CREATE TABLE public.late (id int)")
	_, err := b.SourcePort.Fence(context.Background(), 1, "nonce")
	require.ErrorContains(t, err, "public.late")
	f, _ := b.SourceState()
	require.Zero(t, f.Enabled)
}

func TestWhatIsNotFollowedStopsTheCutover(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, c := range map[string]struct{ sql, says string }{
		"made again under its name": {"CREATE TABLE public.c (LIKE public.a INCLUDING ALL); DROP TABLE public.a; ALTER TABLE public.c RENAME TO a", "public.a was dropped and made again"},
		"moved":                     {`CREATE SCHEMA other; ALTER TABLE public.a RENAME TO "a 2"; ALTER TABLE public."a 2" SET SCHEMA other`, "public.a was renamed to other.a 2"},
		"made":                      {"CREATE TABLE public.late (id int PRIMARY KEY)", "public.late was made since"},
		"renamed":                   {"ALTER TABLE public.a RENAME TO a2", "public.a was renamed to public.a2"},
		"dropped":                   {"DROP TABLE public.a", "public.a was dropped"},
		"not published":             {"ALTER PUBLICATION crossfade DROP TABLE public.a", "in publication crossfade any more"},
		"published in part":         {"ALTER PUBLICATION crossfade SET TABLE public.b, public.a WHERE (id > 0)", "does not publish all of table public.a"},
		"published for inserts":     {"ALTER PUBLICATION crossfade SET (publish = 'insert')", "does not publish all of table public.a"},
		"a subscription":            {"", "subscription feed writes the source"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := apptest.NewPortsFixture(t)
			require.NoError(t, b.SourcePort.Control.Do(ctx, b.Cover.Check))
			if c.sql != "" {
				pgtest.Exec(t, b.Source, c.sql)
			} else {
				super := pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(b.SourceDSN.Database()))
				pgtest.Exec(t, super, "CREATE SUBSCRIPTION feed CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)")
				t.Cleanup(func() {
					pgtest.Exec(t, super, "ALTER SUBSCRIPTION feed DISABLE; ALTER SUBSCRIPTION feed SET (slot_name = NONE); DROP SUBSCRIPTION feed")
				})
				pgtest.Exec(t, super, "ALTER SUBSCRIPTION feed ENABLE")
			}
			require.NoError(t, journal.PrepareFence(ctx, b.Source, apptest.Patience, false))
			b.Pause(1)
			err := b.SourcePort.Prelock(ctx, 1, func(string) {})
			require.ErrorContains(t, err, c.says)
			var stops *watch.WatchedError
			require.ErrorAs(t, b.SourcePort.Confirm(ctx, false), &stops)
			want := "not_followed"
			if strings.Contains(name, "publish") {
				want = "publication_changed"
			}
			require.Len(t, stops.Blockers, 1, "told once")
			require.Equal(t, want, stops.Blockers[0].Code)
			remedy := stops.Blockers[0].Remedy
			_, err = b.SourcePort.Fence(ctx, 1, "nonce")
			require.ErrorContains(t, err, c.says)
			_, err = b.SourcePort.Fingerprint(ctx)
			require.ErrorContains(t, err, stops.Blockers[0].Detail)
			if !strings.Contains(remedy, "on the source: ") {
				require.Equal(t, watch.StartOver, remedy)
				return
			}
			if c.sql == "" {
				apptest.Typed(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(b.SourceDSN.Database())), remedy, "source")
			} else {
				apptest.Typed(t, b.Source, remedy, "source")
			}
			require.Eventually(t, func() bool { return b.SourcePort.Confirm(ctx, false) == nil }, pgtest.Timeout, 10*time.Millisecond, remedy)
			require.NoError(t, b.SourcePort.Control.Do(ctx, b.Cover.Check))
		})
	}
}

func TestTheGuardReleasesThePreLockForAnyWaiter(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := apptest.NewPortsFixture(t)
	lost := make(chan string, 1)
	require.NoError(t, b.SourcePort.Prelock(ctx, 1, func(reason string) { lost <- reason }))
	app := pgtest.Conn(t, b.SourceDSN)
	pgtest.Exec(t, app, "INSERT INTO public.a VALUES (1, 'x')") // writers pass
	// The application's DDL gets its lock well within a second, although we had it.
	pgtest.Exec(t, app, "SET lock_timeout = '1s'; TRUNCATE public.a")
	require.Contains(t, <-lost, b.SourceDSN.User())
	require.NoError(t, b.SourcePort.ReleasePrelock(ctx))
	b.Pause(1)
	_, err := b.SourcePort.Fence(ctx, 1, "nonce") // takes its locks itself
	require.NoError(t, err)
}

// The server ends the pre-lock of a process that says nothing any more, and only of such a one.
func TestThePreLockOfAStoppedProcessEnds(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	p := b.SourcePort.Lock
	p.Beat = 100 * time.Millisecond
	require.NoError(t, b.SourcePort.Prelock(context.Background(), 1, func(string) {}))
	var limit, pid string
	p.Use(func(conn *pgx.Conn) {
		limit, pid = pgtest.Value(t, conn, "SELECT current_setting('idle_in_transaction_session_timeout')"), pgtest.Value(t, conn, "SELECT pg_backend_pid()")
		pgtest.Exec(t, conn, "SET LOCAL idle_in_transaction_session_timeout = '1s'")
	})
	require.Equal(t, "20s", limit)
	sessions := func(more string) bool {
		return pgtest.Value(t, b.Source, "SELECT count(*) FROM pg_stat_activity WHERE pid = "+pid+more) == "1"
	}
	require.Eventually(t, func() bool { return sessions(" AND xact_start < clock_timestamp() - interval '2 s'") }, pgtest.Timeout, 20*time.Millisecond)
	p.EndBeat()
	require.Eventually(t, func() bool { return !sessions("") }, pgtest.Timeout, 20*time.Millisecond)
}

func TestTheDecisionOpensTheTargetOnceAndWhole(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := apptest.NewPortsFixture(t)
	in := cutover.DecisionInput{Epoch: 1, Direction: machine.Forward, Nonce: "n", Sequences: []cutover.Sequence{{Schema: "public", Name: "s", LastValue: 41, IsCalled: true}}}
	app := pgtest.Conn(t, b.TargetDSN)
	closed := func() {
		t.Helper()
		_, err := app.Exec(ctx, "INSERT INTO public.a VALUES (1, 'x')")
		require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(err))
		require.Equal(t, "true", pgtest.Value(t, b.Target, `SELECT open FROM crossfade.progress`))
		require.Equal(t, "0", pgtest.Value(t, b.Target, `SELECT count(*) FROM pg_constraint WHERE conname = 'b_a'`))
	}
	tried := in // a rehearsal moves sequences in spite of its rollback; the decision sets them right
	tried.Sequences = []cutover.Sequence{{Schema: "public", Name: "s", LastValue: 1000, IsCalled: true}}
	require.NoError(t, b.TargetPort.RehearseDecision(ctx, tried))
	closed()
	b.Reached = 0x200 // the lane stands at 0/100: the marker is not applied
	require.ErrorContains(t, b.TargetPort.Decide(ctx, in), "short of")
	closed()
	b.Reached = 0x100
	d, err := b.TargetPort.Reject(ctx, 7)
	require.NoError(t, err)
	require.Equal(t, machine.VerdictAbort, d.Verdict)
	late := in
	late.Epoch = 7
	err = b.TargetPort.Decide(ctx, late)
	require.Error(t, err)
	require.NotErrorIs(t, err, cutover.ErrOutcomeUnknown)
	closed()

	require.NoError(t, b.TargetPort.Prelock(ctx, 1, func(string) {}))
	require.NoError(t, b.TargetPort.Decide(ctx, in))
	d, err = b.TargetPort.Decision(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, machine.VerdictCommit, d.Verdict)
	pgtest.Exec(t, app, "INSERT INTO public.a VALUES (1, 'x')")
	require.Equal(t, "42", pgtest.Value(t, app, `SELECT nextval('public.s')`))
	require.Equal(t, "false", pgtest.Value(t, b.Target, `SELECT open FROM crossfade.progress`))
	require.Equal(t, "switched", pgtest.Value(t, b.Target, `SELECT phase FROM crossfade.run`))
	require.Error(t, b.TargetPort.Decide(ctx, in))
	d, err = b.TargetPort.Reject(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, machine.VerdictCommit, d.Verdict, "what was committed cannot be rejected")
}
