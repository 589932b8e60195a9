package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/apptest"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/undo"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/extras/extension"
)

// Who abandons a fenced attempt has the source's jobs run as they did: recover, and clean where
// nothing was decided.
func TestJobsThatRestRunAgainAfterRecoverAndClean(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := apptest.PortsFixtureOn(t, pgtest.Cron(t, pgtest.Source).AdminDSN(pgtest.CronDatabase))
	pgtest.Exec(t, b.Source, `SELECT cron.schedule('nightly', '0 3 * * *', 'SELECT 1'), cron.schedule('off', '0 4 * * *', 'SELECT 2'), cron.schedule_in_database('other', '0 5 * * *', 'SELECT 3', 'postgres');
		SELECT cron.alter_job(2, active := false)`)
	active := func() string {
		t.Helper()
		return pgtest.Value(t, b.Source, `SELECT coalesce(string_agg(jobname, ' ' ORDER BY jobid), '') FROM cron.job WHERE active`)
	}
	require.Equal(t, "nightly other", active())
	fence := func(epoch int64) {
		t.Helper()
		b.Pause(epoch)
		_, err := b.SourcePort.Fence(ctx, epoch, "nonce")
		require.NoError(t, err)
		require.Equal(t, "other", active(), "under the fence the jobs of the database rest")
	}

	fence(1)
	says, err := undo.Recover(ctx, b.SourceDSN, b.TargetDSN)
	require.NoError(t, err)
	require.Contains(t, says, "The source is active")
	require.Equal(t, "nightly other", active(), "after recover")
	require.Equal(t, "0", pgtest.Value(t, b.Source, `SELECT count(*) FROM crossfade.job`))

	fence(2)
	var told []string
	tell := func(s string) { told = append(told, s) }
	require.NoError(t, ports.EndRest(ctx, b.Source, true, tell))
	require.Equal(t, []string{"source: the list of 1 jobs of pg_cron that rest; they stay inactive"}, told)
	require.Equal(t, "other", active(), "where it was decided they are the target's")
	holder := pgtest.Conn(t, b.SourceDSN)
	pgtest.Exec(t, holder, "BEGIN; SELECT * FROM cron.job FOR UPDATE")
	err = undo.Clean(ctx, b.SourceDSN, b.TargetDSN, false, tell)
	require.ErrorContains(t, err, "source: let the jobs of pg_cron run again: ")
	require.Equal(t, 1, strings.Count(err.Error(), "let the jobs"))
	apptest.Typed(t, b.Source, err.Error(), "source")
	require.NoError(t, undo.Clean(ctx, b.SourceDSN, b.TargetDSN, false, tell))
	require.Equal(t, "nightly other", active(), "after clean")
}

// Someone who holds a row of pg_cron's keeps no application waiting: the fence opens, and the jobs
// run again as soon as they can.
func TestTheFenceOpensThoughARowOfAJobIsHeld(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := apptest.PortsFixtureOn(t, pgtest.Cron(t, pgtest.Source).AdminDSN(pgtest.CronDatabase))
	pgtest.Exec(t, b.Source, `SELECT cron.schedule('nightly', '0 3 * * *', 'SELECT 1')`)
	active := func() string {
		t.Helper()
		return pgtest.Value(t, b.Source, `SELECT active::text FROM cron.job`)
	}
	b.Pause(1)
	_, err := b.SourcePort.Fence(ctx, 1, "nonce")
	require.NoError(t, err)
	require.Equal(t, "false", active())
	holder := pgtest.Conn(t, b.SourceDSN)
	pgtest.Exec(t, holder, "BEGIN; SELECT * FROM cron.job FOR UPDATE")
	require.NoError(t, b.SourcePort.Unfence(ctx, 1))
	pgtest.Exec(t, b.Source, "INSERT INTO public.a VALUES (1, 'x')")
	require.Equal(t, "false", active())
	m := migration.New(migration.Config{})
	found, err := m.Extras.AskJobs(ctx, b.Source, b.Target)
	require.NoError(t, err)
	require.Len(t, found, 2)
	require.Equal(t, "jobs_without_pg_cron", found[1].Code, "which is another matter")
	rest := apptest.Once(t, found[:1], "jobs_rest", "a row is held")
	require.True(t, rest.Warns)
	require.Contains(t, rest.Remedy, "role "+holder.Config().User)
	apptest.Typed(t, b.Source, rest.Remedy, "source")
	require.Eventually(t, func() bool {
		found, err = m.Extras.AskJobs(ctx, b.Source, b.Target)
		return err == nil && len(found) == 1 && found[0].Code == "jobs_without_pg_cron"
	}, pgtest.Timeout, 10*time.Millisecond)
	require.Equal(t, "true", active())

	// A fence that is shut keeps them at rest.
	b.Pause(2)
	_, err = b.SourcePort.Fence(ctx, 2, "nonce2")
	require.NoError(t, err)
	_, err = m.Extras.AskJobs(ctx, b.Source, b.Target)
	require.NoError(t, err)
	require.Equal(t, "false", active())
}

// What keeps jobs from changing sides is told once, and what is printed, typed as it is, removes
// it.
func TestWhatKeepsJobsFromChangingSidesIsRemovedAsPrinted(t *testing.T) {
	t.Parallel()
	admin, ours := map[string]*pgx.Conn{}, map[string]*pgx.Conn{}
	for side, kind := range map[string]pgtest.Kind{"source": pgtest.Source, "target": pgtest.Target} {
		d := pgtest.Cron(t, kind).AdminDSN(pgtest.CronDatabase)
		admin[side] = pgtest.Conn(t, d)
		pgtest.Exec(t, admin[side], `CREATE ROLE "the mover" LOGIN PASSWORD 'pw'; CREATE ROLE app LOGIN; GRANT CREATE ON DATABASE app TO "the mover"`)
		ours[side] = pgtest.Conn(t, d.WithUser("the mover", "pw"))
	}
	pgtest.Exec(t, ours["source"], journal.SourceDDL)
	pgtest.Exec(t, ours["target"], journal.TargetDDL)
	pgtest.Exec(t, admin["source"], extension.ReadRights("the mover"))
	pgtest.Exec(t, admin["target"], extension.WriteRights("the mover"))
	pgtest.Exec(t, admin["source"], `SELECT cron.schedule_in_database('nightly', '0 3 * * *', 'SELECT 1', 'app', 'app'), cron.schedule_in_database('own', '0 3 * * *', 'SELECT 1', 'app', 'the mover')`)
	m := migration.New(migration.Config{Roles: map[string]string{"lonely": "lonely one"}})
	source, target := ours["source"], ours["target"]
	ask := func() []watch.Notice {
		t.Helper()
		found, err := m.Extras.AskJobs(t.Context(), source, target)
		require.NoError(t, err)
		return found
	}
	require.Empty(t, ask())
	for _, x := range []struct {
		name, code         string
		warns              bool
		made, sql, typedAt string
		says               string
	}{
		{"its schema is shut", "jobs_unseen", true, "source", `REVOKE USAGE ON SCHEMA cron FROM "the mover"`, "source", "may not read the jobs"},
		{"row security", "jobs_unseen", true, "source", `ALTER ROLE "the mover" NOBYPASSRLS`, "source", "its own 1 continue to run there"},
		{"they cannot be changed", "jobs_run_on", true, "source", `REVOKE UPDATE ON cron.job FROM "the mover"`, "source", "2 jobs of pg_cron continue to run"},
		{"they cannot be written", "jobs_not_writable", false, "target", `REVOKE INSERT ON cron.job FROM "the mover"`, "target", "2 jobs of pg_cron are scheduled"},
		{"its role is missing", "job_role", false, "source", `CREATE ROLE lonely LOGIN; SELECT cron.schedule_in_database('lonely', '0 3 * * *', 'SELECT 1', 'app', 'lonely')`, "target", "runs as role lonely one, which the target does not have"},
		{"its role may not log in", "job_role", false, "target", `ALTER ROLE "lonely one" NOLOGIN`, "target", "which may not log in at the target"},
		{"its role may not log in, and the job goes", "job_role", false, "target", `ALTER ROLE "lonely one" NOLOGIN`, "source", "which may not log in at the target"},
		{"a job of the target's own", "target_jobs", true, "target", `SELECT cron.schedule('stray', '0 6 * * *', 'SELECT 4'), cron.schedule('another', '0 6 * * *', 'SELECT 4')`, "target", "(stray), "},
		{"its name is taken", "jobs_taken", false, "target", `INSERT INTO cron.job (jobid, jobname, schedule, command, database, username, active) VALUES (900, 'late', '0 6 * * *', 'SELECT 4', 'app', 'app', false)`, "target", "job 4 (late) of pg_cron cannot be made on the target"},
	} {
		pgtest.Exec(t, admin[x.made], x.sql)
		if x.code == "jobs_taken" {
			pgtest.Exec(t, admin["source"], `SELECT cron.schedule_in_database('late', '0 3 * * *', 'SELECT 1', 'app', 'app')`)
		}
		n := apptest.Once(t, ask(), x.code, x.name)
		require.Equal(t, x.warns, n.Warns, x.name)
		require.Contains(t, n.Detail, x.says, x.name)
		apptest.Typed(t, admin[x.typedAt], n.Remedy, x.typedAt)
		require.Empty(t, ask(), x.name)
	}

	// The extension goes, with its rights; it comes again, or the jobs go.
	target = admin["target"]
	for _, side := range []string{"target", "source"} {
		pgtest.Exec(t, target, "DROP EXTENSION pg_cron")
		n := apptest.Once(t, ask(), "jobs_without_pg_cron", "no extension")
		require.Contains(t, n.Detail, "3 jobs of pg_cron are scheduled on the source")
		apptest.Typed(t, admin[side], n.Remedy, side)
		require.Empty(t, ask(), "typed on the "+side)
	}
}
