package preflight

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// Extensions that this machine does not have are told by their names; another one lends
// them its entry.
func TestWhatActsByItselfIsNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Empty(t, f.ask(t, "workers"))
	pgtest.Exec(t, f.sourceAdmin, `CREATE EXTENSION hstore; CREATE EXTENSION pg_trgm; CREATE EXTENSION citext; CREATE SCHEMA pgmq; CREATE TABLE pgmq.q_mail (id int); CREATE TABLE pgmq.a_mail (id int);
		ALTER EXTENSION hstore ADD TABLE pgmq.q_mail; UPDATE pg_extension SET extname = 'pgmq' WHERE extname = 'hstore';
		UPDATE pg_extension SET extname = 'pg_partman' WHERE extname = 'pg_trgm'; UPDATE pg_extension SET extname = 'timescaledb' WHERE extname = 'citext'`)
	partman, timescale := seen{answer.Warning, "extension_acts", "pg_partman"}, seen{answer.Warning, "extension_acts", "timescaledb"}
	require.Equal(t, []seen{partman, timescale, {answer.Blocker, "queue_not_followed", "pgmq.q_mail"}}, short(f.ask(t, "workers")), "a queue is told once")
	require.Equal(t, []seen{partman, {answer.Warning, "extension_acts", "pgmq"}, timescale}, short(f.ask(t, "workers", copyMode)), "a copy follows nothing")
}

func TestJobsThatCannotChangeSidesAreNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.sourceAdmin, "ALTER DATABASE "+f.sourceDSN.Database()+" SET cron.database_name = 'not_there'")
	require.Equal(t, []seen{{answer.Warning, "jobs_elsewhere", "cron.database_name"}}, short(f.ask(t, "workers")))

	pgtest.Exec(t, f.sourceAdmin, "ALTER DATABASE "+f.sourceDSN.Database()+" RESET cron.database_name; "+
		`CREATE EXTENSION hstore; UPDATE pg_extension SET extname = 'pg_cron' WHERE extname = 'hstore'; CREATE SCHEMA cron; CREATE TABLE cron.job (jobid int, username text);
		ALTER TABLE cron.job ENABLE ROW LEVEL SECURITY; GRANT SELECT ON cron.job TO PUBLIC`) // as pg_cron does
	pgtest.Exec(t, f.targetAdmin, "ALTER DATABASE "+f.targetDSN.Database()+" SET cron.database_name = 'postgres'")
	require.Equal(t, []seen{{answer.Warning, "jobs_not_moved", "cron.job"}, {answer.Blocker, "pg_cron_database", "cron.database_name"}}, short(f.ask(t, "workers")))
	f.typed(t, f.ask(t, "workers")[0])
	require.Equal(t, []seen{{answer.Blocker, "pg_cron_database", "cron.database_name"}}, short(f.ask(t, "workers")))
}

func TestABackgroundWorkerOfAnotherKindIsNamed(t *testing.T) {
	t.Parallel()
	c := pgtest.Cron(t, pgtest.Source)
	f := fixtureOn(t, c, pgtest.Shared(t, pgtest.Target))
	f.sourceDSN = c.AdminDSN(pgtest.CronDatabase)
	admin := pgtest.Conn(t, f.sourceDSN)
	require.Eventually(t, func() bool {
		return pgtest.Value(t, admin, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'pg_cron launcher'`) == "1"
	}, pgtest.Timeout, 50*time.Millisecond)
	require.Empty(t, f.ask(t, "workers"), "what pg_cron does is known")
	before := f.whole(t)
	pgtest.Exec(t, admin, "DROP EXTENSION pg_cron")
	require.Equal(t, []seen{{answer.Warning, "background_worker", "pg_cron launcher"}}, short(beyond(f.whole(t), before)), "once, of the whole list")
}
