package daemon

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/pgcluster/pgtest"
)

// Who abandons a fenced attempt has the source's jobs run as they did: recover, and clean where nothing was decided.
func TestJobsThatRestRunAgainAfterRecoverAndClean(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := benchOf(t, pgtest.Cron(t, pgtest.Source).AdminDSN(pgtest.CronDatabase))
	pgtest.Exec(t, b.source, `SELECT cron.schedule('nightly', '0 3 * * *', 'SELECT 1'), cron.schedule('off', '0 4 * * *', 'SELECT 2'), cron.schedule_in_database('other', '0 5 * * *', 'SELECT 3', 'postgres');
		SELECT cron.alter_job(2, active := false)`)
	active := func() string {
		t.Helper()
		return pgtest.Value(t, b.source, `SELECT coalesce(string_agg(jobname, ' ' ORDER BY jobid), '') FROM cron.job WHERE active`)
	}
	require.Equal(t, "nightly other", active())
	fence := func(epoch int64) {
		t.Helper()
		b.pause(epoch)
		_, err := b.src.Fence(ctx, epoch, "nonce")
		require.NoError(t, err)
		require.Equal(t, "other", active(), "under the fence the jobs of the database rest")
	}

	fence(1)
	says, err := Recover(ctx, b.sourceDSN, b.targetDSN)
	require.NoError(t, err)
	require.Contains(t, says, "The source is active")
	require.Equal(t, "nightly other", active(), "after recover")
	require.Equal(t, "0", pgtest.Value(t, b.source, `SELECT count(*) FROM crossfade.job`))

	fence(2)
	var told []string
	tell := func(s string) { told = append(told, s) }
	require.NoError(t, endRest(ctx, b.source, true, tell))
	require.Equal(t, []string{"source: the list of 1 jobs of pg_cron that rest; they stay inactive"}, told)
	require.Equal(t, "other", active(), "where it was decided they are the target's")
	require.NoError(t, Clean(ctx, b.sourceDSN, b.targetDSN, false, tell))
	require.Equal(t, "nightly other", active(), "after clean")
}

// Somebody who holds a row of pg_cron's keeps no application waiting: the fence opens, and the jobs
// run again as soon as they can.
func TestTheFenceOpensThoughARowOfAJobIsHeld(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := benchOf(t, pgtest.Cron(t, pgtest.Source).AdminDSN(pgtest.CronDatabase))
	pgtest.Exec(t, b.source, `SELECT cron.schedule('nightly', '0 3 * * *', 'SELECT 1')`)
	active := func() string {
		t.Helper()
		return pgtest.Value(t, b.source, `SELECT active::text FROM cron.job`)
	}
	b.pause(1)
	_, err := b.src.Fence(ctx, 1, "nonce")
	require.NoError(t, err)
	require.Equal(t, "false", active())
	holder := pgtest.Conn(t, b.sourceDSN)
	pgtest.Exec(t, holder, "BEGIN; SELECT * FROM cron.job FOR UPDATE")
	require.NoError(t, b.src.Unfence(ctx, 1))
	pgtest.Exec(t, b.source, "INSERT INTO public.a VALUES (1, 'x')")
	require.Equal(t, "false", active())
	m := &migration{}
	found, err := m.askJobs(ctx, b.source, b.target)
	require.NoError(t, err)
	require.Equal(t, "jobs_rest", found[0].Code)
	require.True(t, found[0].warns)
	pgtest.Exec(t, holder, "ROLLBACK")
	found, err = m.askJobs(ctx, b.source, b.target)
	require.NoError(t, err)
	for _, n := range found {
		require.NotEqual(t, "jobs_rest", n.Code)
	}
	require.Equal(t, "true", active())

	// A fence that is shut keeps them at rest.
	b.pause(2)
	_, err = b.src.Fence(ctx, 2, "nonce2")
	require.NoError(t, err)
	_, err = m.askJobs(ctx, b.source, b.target)
	require.NoError(t, err)
	require.Equal(t, "false", active())
}
