package e2e_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// cronSides are sides whose databases have pg_cron, with roles that are superusers.
func cronSides(t *testing.T) *sides {
	t.Helper()
	s := &sides{}
	for kind, c := range map[pgtest.Kind]**pgcluster.Cluster{pgtest.Source: &s.sourceCluster, pgtest.Target: &s.targetCluster} {
		*c = pgtest.Cron(t, kind)
	}
	s.source, s.target = s.sourceCluster.AdminDSN(pgtest.CronDatabase), s.targetCluster.AdminDSN(pgtest.CronDatabase)
	return s
}

// A job runs on one side at a time: on the source until the fence, and again after an attempt that
// failed; on the target from the decision on.
func TestJobsOfPgCronChangeSides(t *testing.T) {
	t.Parallel()
	s := cronSides(t)
	source, target := pgtest.Conn(t, s.source), pgtest.Conn(t, s.target)
	pgtest.Exec(t, source, `CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t VALUES (1);
		SELECT cron.schedule('nightly', '0 3 * * *', 'SELECT 1'), cron.schedule('off', '0 4 * * *', 'SELECT 2'); SELECT cron.alter_job(2, active := false)`)
	const jobs = `SELECT string_agg(concat_ws(' ', jobname, database, username, active), ', ' ORDER BY jobid) FROM cron.job`
	p := newProcess(t, s, "--map-role=postgres=cloud_admin")
	p.start()
	p.awaitFollowing()
	require.Equal(t, "nightly app cloud_admin f, off app cloud_admin f", pgtest.Value(t, target, jobs))
	pgtest.Exec(t, source, `SELECT cron.schedule('late', '0 5 * * *', 'SELECT 3')`)
	pgtest.Exec(t, target, `SELECT cron.schedule('stray', '0 6 * * *', 'SELECT 4'); UPDATE cron.job SET jobid = 77 WHERE jobname = 'stray'`)
	p.await("it names a job that runs on the target", func(st control.Status) bool { return warned(st, "target_jobs", "stray") })
	pgtest.Exec(t, target, `SELECT cron.unschedule(77)`)

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := p.request(ctx, control.CutoverOptions{Rehearse: true})
	require.NoError(t, err)
	require.Equal(t, control.OutcomeRehearsed, r.Outcome, r.Reason)
	require.Equal(t, "nightly app postgres t, off app postgres f, late app postgres t", pgtest.Value(t, source, jobs))
	require.Equal(t, "nightly app cloud_admin f, off app cloud_admin f, late app cloud_admin f", pgtest.Value(t, target, jobs))

	p.cutover()
	require.Equal(t, "nightly app postgres f, off app postgres f, late app postgres f", pgtest.Value(t, source, jobs))
	require.Equal(t, "nightly app cloud_admin t, off app cloud_admin f, late app cloud_admin t", pgtest.Value(t, target, jobs))
	p.awaitWhole()
	dropped := strings.Join(p.finish().Dropped, "\n")
	require.Contains(t, dropped, "2 jobs of pg_cron that rest")
	require.Equal(t, "nightly app postgres f, off app postgres f, late app postgres f", pgtest.Value(t, source, jobs), "the source's jobs rest for good")
	require.Equal(t, 0, p.stop())
}
