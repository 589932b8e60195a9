package daemon

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/apptest"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/runs"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// A start after a finish takes any source, since it does not matter any more. Then a finish that is
// to open the source must not open the fence of another migration.
func TestAFinishLeavesTheSourceOfAnotherRunAlone(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	d := bare(func(d *daemon) {
		d.sessions.watching = dbconn.New(b.SourceDSN)
		d.entry.id = runs.Identity{Target: &journal.TargetRun{RunID: "other", Phase: journal.PhaseFinished}}
	})
	t.Cleanup(d.sessions.watching.Close)
	_, err := d.finisher.journalled(t.Context())
	var told *control.Error
	require.ErrorAs(t, err, &told)
	require.Equal(t, control.CodeRefused, told.Code)
	require.Contains(t, told.Message, "belongs to run r of Crossfade, and this one is other")

	d.entry.id.Target.RunID = "r"
	there, err := d.finisher.journalled(t.Context())
	require.NoError(t, err)
	require.True(t, there)

	// A source that is away for a while is asked once more.
	name := pg.QuoteIdent(b.SourceDSN.Database())
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN("postgres"))
	d.sessions.watching.Close()
	pgtest.Exec(t, admin, "ALTER DATABASE "+name+" CONNECTION LIMIT 0")
	_, err = d.finisher.journalled(t.Context())
	require.ErrorAs(t, err, &told)
	require.Contains(t, told.Message, "the source does not answer: ")
	require.Equal(t, "make it reachable and run this again; meanwhile the target is served", told.Remedy)
	pgtest.Exec(t, admin, "ALTER DATABASE "+name+" CONNECTION LIMIT -1")
	there, err = d.finisher.journalled(t.Context())
	require.NoError(t, err)
	require.True(t, there)
}

// Work after the switch may end when someone has finished the migration without it.
func TestWhatIsFinishedStaysFinished(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	_, err := journal.DropFence(t.Context(), b.Target, apptest.Patience)
	require.NoError(t, err)
	require.NoError(t, journal.Conclude(t.Context(), b.Target))
	require.NoError(t, journal.SetPhase(t.Context(), b.Target, journal.PhaseValid))
	run, err := journal.LoadTarget(t.Context(), b.Target)
	require.NoError(t, err)
	require.Equal(t, journal.PhaseFinished, run.Phase)

	m := migration.New(migration.Config{Phase: journal.PhaseSwitched})
	m.Task.SetValid()
	require.Equal(t, journal.PhaseValid, m.Task.Phase)
	m.Task.SetPhase(journal.PhaseFinished)
	m.Task.SetValid()
	require.Equal(t, journal.PhaseFinished, m.Task.Phase)
}

// PostgreSQL has writers wait for the validation of a domain's constraint. One that is not done in
// its time is not tried again every few seconds.
func TestAStatementThatHeldUpWritersIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	pgtest.Exec(t, b.Target, `SET crossfade.key = 'k'; CREATE FUNCTION public.slow(int) RETURNS bool LANGUAGE sql AS 'SELECT pg_sleep(3600) IS NOT NULL';
		CREATE DOMAIN public.d AS int; ALTER TABLE public.a ADD d public.d; INSERT INTO public.a VALUES (1, 'v', 1);
		ALTER DOMAIN public.d ADD CONSTRAINT c CHECK (public.slow(VALUE)) NOT VALID`)
	b.TargetPort.Plan = func(context.Context, *pgx.Conn) (*plan.DecisionSQL, error) {
		return &plan.DecisionSQL{After: []plan.Statement{{Kind: "VALIDATE", Schema: "public", Name: "d c", SQL: "ALTER DOMAIN public.d VALIDATE CONSTRAINT c"}}}, nil
	}
	b.TargetPort.Left = &ports.Completion{Log: zerolog.Nop()}
	b.TargetPort.After = func(context.Context) error { return nil }
	b.TargetPort.Last = func(context.Context, *pgx.Conn) ([]finding.Finding, error) { return nil, nil }
	b.TargetPort.Unfinished = (migration.New(migration.Config{})).Keys.Unfinished
	whole := false
	b.TargetPort.Whole = func(context.Context, *pgx.Conn) error { whole = true; return nil }
	overdue, err := b.TargetPort.CompleteOnce(t.Context())
	require.NoError(t, err)
	require.True(t, overdue)
	require.False(t, whole)
	require.Len(t, b.TargetPort.Left.Blockers(), 1)
	require.GreaterOrEqual(t, ports.RestCompletion(time.Second, overdue), 5*time.Minute)

	pgtest.Exec(t, b.Target, `CREATE OR REPLACE FUNCTION public.slow(int) RETURNS bool LANGUAGE sql AS 'SELECT true'`)
	overdue, err = b.TargetPort.CompleteOnce(t.Context())
	require.NoError(t, err)
	require.False(t, overdue)
	require.True(t, whole)
	require.Empty(t, b.TargetPort.Left.Blockers())
	require.Equal(t, ports.CompletionPause, ports.RestCompletion(time.Millisecond, false))
	require.Equal(t, 5*time.Minute, ports.RestCompletion(time.Minute, false), "it has read the tables of the applications")
}
