package onedatabase_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/onedatabase"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func parseDSN(t *testing.T, s string) pg.DSN {
	t.Helper()
	d, err := pg.ParseDSN(s)
	require.NoError(t, err)
	return d
}

// refuseOne compares what two connection strings lead to.
func refuseOne(t *testing.T, source, target pg.DSN) error {
	t.Helper()
	return onedatabase.Refuse(t.Context(), pgtest.Conn(t, source), pgtest.Conn(t, target))
}

func TestTwoNamesOfOneDatabaseAreFoundOut(t *testing.T) {
	t.Parallel()
	c := pgtest.Shared(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	other := pgtest.Database(t, c)
	byName := parseDSN(t, fmt.Sprintf("host=localhost port=%d user=%s password=%s dbname=%s sslmode=disable", c.Port(), dsn.User(), dsn.Password(), dsn.Database()))
	bySocket := parseDSN(t, fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s", c.Dir(), c.Port(), dsn.User(), dsn.Password(), dsn.Database()))
	for name, second := range map[string]pg.DSN{"the same": dsn, "by host name": byName, "by socket": bySocket, "by another role": c.AdminDSN(dsn.Database())} {
		err := refuseOne(t, dsn, second)
		require.ErrorAs(t, err, new(*onedatabase.Error), name)
		require.ErrorContains(t, err, dsn.Database(), name)
		require.NotContains(t, err.Error(), dsn.Password())
	}
	require.NoError(t, refuseOne(t, dsn, other), "another database of the same server")
	require.NoError(t, refuseOne(t, dsn, pgtest.Database(t, pgtest.Shared(t, pgtest.Target))))
}

// A role that may not read the cluster's identifier finds it out as well.
func TestTwoNamesOfOneDatabaseAreFoundOutWithoutRights(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	pgtest.Exec(t, pgtest.Conn(t, c.AdminDSN(dsn.Database())), `REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_system() FROM PUBLIC`)
	require.ErrorAs(t, refuseOne(t, dsn, dsn), new(*onedatabase.Error))
}

// A copy of a cluster's files has its system identifier, its timeline and the same
// numbers of databases, and is another database all the same; a standby is not.
func TestACopyOfTheFilesIsAnotherDatabaseAndAStandbyIsNot(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it starts three clusters of its own")
	}
	c := pgtest.Own(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	twin := pgtest.Own(t, pgtest.Source, func(cfg *pgcluster.Config) { cfg.CopyOf = c })
	standby := pgtest.Own(t, pgtest.Source, func(cfg *pgcluster.Config) { cfg.CopyOf, cfg.Standby = c, true })
	at := func(c *pgcluster.Cluster) pg.DSN { return c.DSN(dsn.User(), dsn.Password(), dsn.Database()) }
	const system = `SELECT system_identifier FROM pg_control_system()`
	require.Equal(t, pgtest.Value(t, pgtest.Conn(t, dsn), system), pgtest.Value(t, pgtest.Conn(t, at(twin)), system))

	require.NoError(t, refuseOne(t, dsn, at(twin)))
	require.NoError(t, refuseOne(t, at(twin), dsn))

	var one *onedatabase.Error
	require.ErrorAs(t, refuseOne(t, at(standby), dsn), &one, "what is written to the primary is written to its standby")
	require.ErrorContains(t, one, "standby")
	require.ErrorAs(t, refuseOne(t, dsn, at(standby)), new(*onedatabase.StandbyError), "a standby cannot be a target")
	require.NoError(t, refuseOne(t, at(standby), c.AdminDSN("postgres")), "another database of the primary")
	// The standby of one and the twin: the one has replayed more than the other has written.
	pgtest.Exec(t, pgtest.Conn(t, dsn), `CREATE TABLE public.more AS SELECT generate_series(1, 200000) AS n`)
	ahead := pgtest.Conn(t, at(standby))
	require.Eventually(t, func() bool { return pgtest.Value(t, ahead, `SELECT to_regclass('public.more')`) == "more" }, pgtest.Timeout, time.Millisecond)
	require.NoError(t, refuseOne(t, at(standby), at(twin)))

	// A standby that does not replay cannot be told from one that has nothing to replay.
	pgtest.Exec(t, pgtest.Conn(t, standby.AdminDSN("postgres")), `SELECT pg_wal_replay_pause()`)
	source, target := pgtest.Conn(t, at(standby)), pgtest.Conn(t, dsn)
	ctx, cancel := context.WithTimeout(t.Context(), onedatabase.ReplayPatience/10)
	defer cancel()
	err := onedatabase.Refuse(ctx, source, target)
	require.ErrorIs(t, err, context.DeadlineExceeded, "it waits for the standby")
	require.Equal(t, "0", pgtest.Value(t, pgtest.Conn(t, dsn), `SELECT count(*) FROM pg_class WHERE relname LIKE 'crossfade%'`), "nothing is left")
}
