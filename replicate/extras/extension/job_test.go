package extension_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/extras/extension"
	"crossfade/replicate/snapshot"
)

// withCron starts a cluster whose database "app" has pg_cron, with the roles of its jobs,
// and opens a superuser's session there.
func withCron(t *testing.T, kind pgtest.Kind, roles ...string) (*pgcluster.Cluster, *pgx.Conn) {
	t.Helper()
	c := pgtest.Cron(t, kind)
	conn := pgtest.Conn(t, c.AdminDSN(pgtest.CronDatabase))
	for _, r := range roles {
		pgtest.Exec(t, conn, "CREATE ROLE "+r+" LOGIN")
	}
	return c, conn
}

// awaitLauncher waits until the launcher of pg_cron runs and returns its process.
func awaitLauncher(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < pgtest.Timeout; <-tick.C {
		if pid := pgtest.Value(t, conn, `SELECT coalesce(max(pid), 0)::text FROM pg_stat_activity WHERE backend_type LIKE 'pg_cron%' OR application_name LIKE 'pg_cron%'`); pid != "0" {
			return pid
		}
	}
	require.Fail(t, "pg_cron does not run", pgtest.Value(t, conn, `SELECT string_agg(concat_ws(' ', backend_type, application_name), ', ') FROM pg_stat_activity`))
	return ""
}

func connect(c *pgcluster.Cluster, database string) snapshot.Connect {
	return func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, c.AdminDSN(database)) }
}

const cronJobs = `SELECT coalesce(string_agg(concat_ws('|', jobid, jobname, schedule, command, nodename, nodeport = current_setting('port')::int, database, username, active), E'\n' ORDER BY jobid), '') FROM cron.job`

func TestJobsArriveInactiveAndChangeSidesWithTheDecision(t *testing.T) {
	t.Parallel()
	from, source := withCron(t, pgtest.Source, "app_user", "lonely")
	to, target := withCron(t, pgtest.Target, "neon_user")
	pgtest.Exec(t, source, journal.SourceDDL)
	pgtest.Exec(t, target, journal.TargetDDL)
	pgtest.Exec(t, source, `SELECT cron.schedule_in_database('nightly', '0 3 * * *', 'SELECT 1', 'app', 'app_user');
		SELECT cron.schedule_in_database('off', '0 4 * * *', 'SELECT 2', 'app', 'app_user', false);
		SELECT cron.schedule_in_database('other', '0 5 * * *', 'SELECT 3', 'postgres', 'app_user');
		SELECT cron.schedule_in_database('lonely', '0 6 * * *', 'SELECT 4', 'app', 'lonely');
		UPDATE cron.job SET nodename = 'elsewhere.example', nodeport = 6543 WHERE jobname = 'off';
		INSERT INTO cron.job_run_details (jobid, runid, database, username, command) VALUES (1, 7, 'app', 'app_user', 'SELECT 1')`)
	pgtest.Exec(t, target, `SELECT cron.schedule_in_database('theirs', '0 3 * * *', 'SELECT 9', 'postgres'); UPDATE cron.job SET jobid = 900`)
	launcher := awaitLauncher(t, target)

	roles := map[string]string{"app_user": "neon_user"}
	sync := func() extension.Jobs {
		t.Helper()
		r, err := extension.SyncJobs(t.Context(), source, target, roles)
		require.NoError(t, err)
		return r
	}
	_, err := extension.Copy(t.Context(), extension.Config{Source: connect(from, "app"), Target: connect(to, "app"), Roles: roles})
	require.NoError(t, err)
	require.Equal(t, "app neon_user", pgtest.Value(t, target, `SELECT database || ' ' || username FROM cron.job_run_details WHERE runid = 7`), "the history names the target's")
	require.Equal(t, "900", pgtest.Value(t, target, `SELECT string_agg(jobid::text, ' ') FROM cron.job`), "jobs are not copied as they are, and others' are left alone")
	digest, err := extension.Digest(t.Context(), source)
	require.NoError(t, err)
	pgtest.Exec(t, source, `INSERT INTO cron.job_run_details (jobid, runid, database, username, command) VALUES (1, 8, 'app', 'app_user', 'SELECT 1')`)
	after, err := extension.Digest(t.Context(), source)
	require.NoError(t, err)
	require.Equal(t, digest, after, "a run of a job is no reason to copy its history again")
	r := sync()
	require.Equal(t, 3, r.Scheduled)
	require.Len(t, r.Roleless, 1)
	require.Equal(t, "4 (lonely)", r.Roleless[0].String())
	require.False(t, r.Blind || r.Unresting || r.Absent)
	require.Empty(t, r.Foreign)
	const theirs = "\n900|theirs|0 3 * * *|SELECT 9|localhost|t|postgres|cloud_admin|t"
	require.Equal(t, "1|nightly|0 3 * * *|SELECT 1|localhost|t|app|neon_user|f\n2|off|0 4 * * *|SELECT 2|elsewhere.example|f|app|neon_user|f"+theirs, pgtest.Value(t, target, cronJobs))

	// What changes on the source follows; what does not is not written again.
	const rows = `SELECT string_agg(xmin::text, ' ' ORDER BY jobid) FROM cron.job`
	was := pgtest.Value(t, target, rows)
	sync()
	require.Equal(t, was, pgtest.Value(t, target, rows))
	pgtest.Exec(t, source, `SELECT cron.unschedule(3); SELECT cron.alter_job(1, schedule := '30 3 * * *')`)
	pgtest.Exec(t, target, `CREATE ROLE lonely LOGIN; SELECT cron.schedule_in_database('mine', '0 3 * * *', 'SELECT 10', 'app'); UPDATE cron.job SET jobid = 901 WHERE jobname = 'mine'`)
	r = sync()
	require.Empty(t, r.Roleless)
	require.Len(t, r.Foreign, 1, "somebody's job runs on the target before the switch")
	pgtest.Exec(t, target, `SELECT cron.unschedule(901)`)
	inactive := "1|nightly|30 3 * * *|SELECT 1|localhost|t|app|neon_user|f\n2|off|0 4 * * *|SELECT 2|elsewhere.example|f|app|neon_user|f\n4|lonely|0 6 * * *|SELECT 4|localhost|t|app|lonely|f" + theirs
	require.Equal(t, inactive, pgtest.Value(t, target, cronJobs))

	// The source rests, and an abort has its jobs run again as they did.
	before := pgtest.Value(t, source, cronJobs)
	pgtest.Exec(t, source, extension.RestJobs)
	require.Equal(t, "0", pgtest.Value(t, source, `SELECT count(*) FROM cron.job WHERE active AND database = 'app'`))
	sync()
	require.Equal(t, inactive, pgtest.Value(t, target, cronJobs), "under the fence the jobs are the same ones")
	pgtest.Exec(t, source, extension.WakeJobs)
	require.Equal(t, before, pgtest.Value(t, source, cronJobs))

	pgtest.Exec(t, source, extension.RestJobs)
	pgtest.Exec(t, target, "BEGIN;"+extension.ActivateJobs+"ROLLBACK")
	require.Equal(t, inactive, pgtest.Value(t, target, cronJobs))
	pgtest.Exec(t, target, extension.ActivateJobs)
	require.Equal(t, "1 4 900", pgtest.Value(t, target, `SELECT string_agg(jobid::text, ' ' ORDER BY jobid) FROM cron.job WHERE active`), "what was inactive on the source stays so")
	_, err = extension.SyncJobs(t.Context(), source, target, roles)
	require.ErrorContains(t, err, "decision", "a late comer changes nothing")
	require.Equal(t, launcher, awaitLauncher(t, target), "the launcher has not ended")
}

// pg_cron gives nobody USAGE on its schema, and shows a role its own jobs alone: what is missing
// is told and stops nothing, and the statements that are told give it.
func TestRightsOnJobsAreToldAndGiven(t *testing.T) {
	t.Parallel()
	from, source := withCron(t, pgtest.Source, "mover")
	to, target := withCron(t, pgtest.Target, "mover")
	for _, admin := range []*pgx.Conn{source, target} {
		pgtest.Exec(t, admin, "ALTER ROLE mover PASSWORD 'geheim'; GRANT CREATE ON DATABASE app TO mover; REVOKE ALL ON SCHEMA cron FROM PUBLIC")
	}
	open := func(c *pgcluster.Cluster) *pgx.Conn {
		t.Helper()
		d := c.AdminDSN(pgtest.CronDatabase)
		conn, err := pg.Connect(t.Context(), d.WithUser("mover", "geheim"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	s, d := open(from), open(to)
	pgtest.Exec(t, s, journal.SourceDDL)
	pgtest.Exec(t, d, journal.TargetDDL)
	sync := func() extension.Jobs {
		t.Helper()
		pgtest.Exec(t, s, "BEGIN;"+extension.RestJobs+extension.WakeJobs+"COMMIT")
		pgtest.Exec(t, d, "BEGIN;"+extension.ActivateJobs+"ROLLBACK")
		r, err := extension.SyncJobs(t.Context(), s, d, nil)
		require.NoError(t, err)
		return r
	}
	require.Equal(t, extension.Jobs{There: true, Unread: true, Unresting: true}, sync(), "without a job, too")
	pgtest.Exec(t, source, `SELECT cron.schedule_in_database('nightly', '0 3 * * *', 'SELECT 1', 'app', 'mover'), cron.schedule('theirs', '0 4 * * *', 'SELECT 2')`)
	sync()
	pgtest.Exec(t, source, "GRANT USAGE ON SCHEMA cron TO mover")
	r := sync()
	require.True(t, r.Blind && r.Unresting && r.Unwritten)
	require.Equal(t, 1, r.Scheduled, "its own")
	pgtest.Exec(t, source, extension.ReadRights("mover"))
	r = sync()
	require.Equal(t, 2, r.Scheduled)
	require.False(t, r.Blind || r.Unresting)
	require.True(t, r.Unwritten)
	pgtest.Exec(t, target, extension.WriteRights("mover"))
	r = sync()
	require.False(t, r.Unwritten)
	require.Equal(t, "1|nightly|0 3 * * *|SELECT 1|localhost|t|app|mover|f", pgtest.Value(t, target, cronJobs+" WHERE jobname = 'nightly'"))
}
