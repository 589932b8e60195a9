package daemon

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/runs"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// A start after a finish takes any source, since it does not matter any more. Then a finish that is to open the
// source must not open the fence of another migration.
func TestAFinishLeavesTheSourceOfAnotherRunAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	d := &daemon{watching: dbconn.New(b.sourceDSN), id: runs.Identity{Target: &journal.TargetRun{RunID: "other", Phase: journal.PhaseFinished}}}
	t.Cleanup(d.watching.Close)
	_, err := d.journalled(t.Context())
	var told *control.Error
	require.ErrorAs(t, err, &told)
	require.Equal(t, control.CodeRefused, told.Code)
	require.Contains(t, told.Message, "belongs to run r of Crossfade, and this one is other")

	d.id.Target.RunID = "r"
	there, err := d.journalled(t.Context())
	require.NoError(t, err)
	require.True(t, there)

	// A source that is away for a while is asked once more.
	name := pg.QuoteIdent(b.sourceDSN.Database())
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN("postgres"))
	d.watching.Close()
	pgtest.Exec(t, admin, "ALTER DATABASE "+name+" CONNECTION LIMIT 0")
	_, err = d.journalled(t.Context())
	require.ErrorAs(t, err, &told)
	require.Contains(t, told.Message, "the source does not answer: ")
	require.Equal(t, "make it reachable and run this again; meanwhile the target is served", told.Remedy)
	pgtest.Exec(t, admin, "ALTER DATABASE "+name+" CONNECTION LIMIT -1")
	there, err = d.journalled(t.Context())
	require.NoError(t, err)
	require.True(t, there)
}

// Work after the switch may end when somebody has finished the migration without it.
func TestWhatIsFinishedStaysFinished(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, err := journal.DropFence(t.Context(), b.target, testPatience)
	require.NoError(t, err)
	require.NoError(t, journal.Conclude(t.Context(), b.target))
	require.NoError(t, journal.SetPhase(t.Context(), b.target, journal.PhaseValid))
	run, err := journal.LoadTarget(t.Context(), b.target)
	require.NoError(t, err)
	require.Equal(t, journal.PhaseFinished, run.Phase)

	m := &migration{phase: journal.PhaseSwitched}
	m.setValid()
	require.Equal(t, journal.PhaseValid, m.phase)
	m.setPhase(journal.PhaseFinished)
	m.setValid()
	require.Equal(t, journal.PhaseFinished, m.phase)
}

// PostgreSQL has writers wait for the validation of a domain's constraint. One that is not done in its time is not
// tried again every few seconds.
func TestAStatementThatHeldUpWritersIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	pgtest.Exec(t, b.target, `SET crossfade.key = 'k'; CREATE FUNCTION public.slow(int) RETURNS bool LANGUAGE sql AS 'SELECT pg_sleep(3600) IS NOT NULL';
		CREATE DOMAIN public.d AS int; ALTER TABLE public.a ADD d public.d; INSERT INTO public.a VALUES (1, 'v', 1);
		ALTER DOMAIN public.d ADD CONSTRAINT c CHECK (public.slow(VALUE)) NOT VALID`)
	b.dst.plan = func() (*plan.DecisionSQL, error) {
		return &plan.DecisionSQL{After: []plan.Statement{{Kind: "VALIDATE", Schema: "public", Name: "d c", SQL: "ALTER DOMAIN public.d VALIDATE CONSTRAINT c"}}}, nil
	}
	b.dst.left = &completion{log: zerolog.Nop()}
	b.dst.after = func(context.Context) error { return nil }
	b.dst.last = func(context.Context, *pgx.Conn) ([]finding.Finding, error) { return nil, nil }
	b.dst.unfinished = (&migration{}).unfinished
	whole := false
	b.dst.complete = func() { whole = true }
	overdue, err := b.dst.completeOnce(t.Context())
	require.NoError(t, err)
	require.True(t, overdue)
	require.False(t, whole)
	require.Len(t, b.dst.left.blockers(), 1)
	require.GreaterOrEqual(t, restCompletion(time.Second, overdue), 5*time.Minute)

	pgtest.Exec(t, b.target, `CREATE OR REPLACE FUNCTION public.slow(int) RETURNS bool LANGUAGE sql AS 'SELECT true'`)
	overdue, err = b.dst.completeOnce(t.Context())
	require.NoError(t, err)
	require.False(t, overdue)
	require.True(t, whole)
	require.Empty(t, b.dst.left.blockers())
	require.Equal(t, completionPause, restCompletion(time.Millisecond, false))
	require.Equal(t, 5*time.Minute, restCompletion(time.Minute, false), "it has read the tables of the applications")
}
