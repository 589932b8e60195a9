package extension

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// Extensions that this machine does not have are told by their names; another one lends
// them its entry.
func TestWhatActsByItselfIsNamed(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	require.Empty(t, f.Ask(t, Workers))
	pgtest.Exec(t, f.SourceAdmin, `CREATE EXTENSION hstore; CREATE EXTENSION pg_trgm; CREATE EXTENSION citext; CREATE SCHEMA pgmq; CREATE TABLE pgmq.q_mail (id int); CREATE TABLE pgmq.a_mail (id int);
		ALTER EXTENSION hstore ADD TABLE pgmq.q_mail; UPDATE pg_extension SET extname = 'pgmq' WHERE extname = 'hstore';
		UPDATE pg_extension SET extname = 'pg_partman' WHERE extname = 'pg_trgm'; UPDATE pg_extension SET extname = 'timescaledb' WHERE extname = 'citext'`)
	partman, timescale := preflighttest.Seen{answer.Warning, "extension_acts", "pg_partman"}, preflighttest.Seen{answer.Warning, "extension_acts", "timescaledb"}
	require.Equal(t, []preflighttest.Seen{partman, timescale, {answer.Blocker, "queue_not_followed", "pgmq.q_mail"}}, preflighttest.Short(f.Ask(t, Workers)), "a queue is told once")
	require.Equal(t, []preflighttest.Seen{partman, {answer.Warning, "extension_acts", "pgmq"}, timescale}, preflighttest.Short(f.Ask(t, Workers, preflighttest.CopyMode)), "a copy follows nothing")
}

func TestJobsThatCannotChangeSidesAreNamed(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.SourceAdmin, "ALTER DATABASE "+f.SourceDSN.Database()+" SET cron.database_name = 'not_there'")
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "jobs_elsewhere", "cron.database_name"}}, preflighttest.Short(f.Ask(t, Workers)))

	pgtest.Exec(t, f.SourceAdmin, "ALTER DATABASE "+f.SourceDSN.Database()+" RESET cron.database_name; "+
		`CREATE EXTENSION hstore; UPDATE pg_extension SET extname = 'pg_cron' WHERE extname = 'hstore'; CREATE SCHEMA cron; CREATE TABLE cron.job (jobid int, username text);
		ALTER TABLE cron.job ENABLE ROW LEVEL SECURITY; GRANT SELECT ON cron.job TO PUBLIC`) // as pg_cron does
	pgtest.Exec(t, f.TargetAdmin, "ALTER DATABASE "+f.TargetDSN.Database()+" SET cron.database_name = 'postgres'")
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "jobs_not_moved", "cron.job"}, {answer.Blocker, "pg_cron_database", "cron.database_name"}}, preflighttest.Short(f.Ask(t, Workers)))
	f.Typed(t, f.Ask(t, Workers)[0])
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "pg_cron_database", "cron.database_name"}}, preflighttest.Short(f.Ask(t, Workers)))
}
