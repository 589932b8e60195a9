package pgtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster"
)

// CronDatabase is the database of a cluster of Cron that has pg_cron.
const CronDatabase = "app"

// Cron returns a cluster of the test's own whose database CronDatabase has pg_cron, with
// the launcher that runs jobs. The test is skipped where the server has no pg_cron.
func Cron(t testing.TB, kind Kind) *pgcluster.Cluster {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	if !b.HasLibrary("pg_cron") {
		t.Skipf("the server of %s has no pg_cron: install Debian's package postgresql-%d-cron", b.Dir, b.Major)
	}
	c := Own(t, kind, func(cfg *pgcluster.Config) {
		cfg.Settings = map[string]string{"wal_level": "logical", "shared_preload_libraries": "pg_cron", "cron.database_name": CronDatabase,
			"cron.use_background_workers": "on", "max_worker_processes": "20"}
	})
	Exec(t, Conn(t, c.AdminDSN("postgres")), "CREATE DATABASE "+CronDatabase)
	Exec(t, Conn(t, c.AdminDSN(CronDatabase)), "CREATE EXTENSION pg_cron")
	return c
}
