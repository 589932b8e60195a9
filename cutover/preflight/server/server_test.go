package server

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestReplicationRight(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	require.Empty(t, f.Ask(t, Replication))
	pgtest.Exec(t, f.SourceAdmin, "ALTER ROLE "+f.SourceDSN.User()+" NOREPLICATION")
	found := f.Ask(t, Replication)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "no_replication", f.SourceDSN.User()}}, preflighttest.Short(found))

	p := f.Pair(t, func(o *inquiry.Options) {
		o.OpenReplication = func(context.Context) error { return errors.New("connection reset") }
	})
	_, err := Replication(t.Context(), p)
	require.ErrorContains(t, err, "connection reset", "not knowing is no finding")
}

func TestSourceFindings(t *testing.T) {
	t.Parallel()
	require.Empty(t, sourceFindings("logical", false))
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "source_is_standby", "source"}, {answer.Blocker, "wal_level", "source"}}, preflighttest.Short(sourceFindings("replica", true)))
}

// What is about the whole server is looked at on a server of its own.
func TestALimitedServer(t *testing.T) {
	t.Parallel()
	source := pgtest.Own(t, pgtest.Source, func(c *pgcluster.Config) {
		c.Settings = map[string]string{
			"wal_level": "replica", "max_replication_slots": "1", "max_wal_senders": "1",
			"old_snapshot_threshold": "'60min'", "max_slot_wal_keep_size": "'1GB'",
		}
		if preflighttest.Major(t) >= 17 {
			delete(c.Settings, "old_snapshot_threshold") // no such setting any more
		}
	})
	target := pgtest.Shared(t, pgtest.Target)
	f := preflighttest.On(t, source, target)

	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "wal_level", "source"}}, preflighttest.Short(f.Ask(t, WALLevel)))
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "slot_wal_limited", "max_slot_wal_keep_size"}}, preflighttest.Short(f.Ask(t, Retention)))
	if preflighttest.Major(t) < 17 {
		require.Equal(t, []preflighttest.Seen{{answer.Warning, "old_snapshot_threshold", "old_snapshot_threshold"}}, preflighttest.Short(f.Ask(t, OldSnapshots)))
	}
	require.Empty(t, f.Ask(t, Capacity))
	require.Empty(t, f.Ask(t, Neighbours))
	require.Empty(t, f.Ask(t, PreparedTransactions))

	pgtest.Exec(t, f.SourceAdmin, "SELECT pg_create_physical_replication_slot('standby')")
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "replication_slots_full", "max_replication_slots"}}, preflighttest.Short(f.Ask(t, Capacity)))
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "foreign_slot", "standby"}}, preflighttest.Short(f.Ask(t, Neighbours)))
	pgtest.Exec(t, f.SourceAdmin, "SELECT pg_drop_replication_slot('standby')")

	taken, err := pg.ConnectReplication(t.Context(), f.SourceDSN)
	require.NoError(t, err)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "wal_senders_full", "max_wal_senders"}}, preflighttest.Short(f.Ask(t, Capacity)))
	require.Empty(t, f.Ask(t, Replication), "which says it for both")
	require.NoError(t, taken.Close(context.Background()))

	pgtest.Exec(t, f.Source, "CREATE TABLE t (a int)")
	pgtest.Exec(t, f.Source, "BEGIN; INSERT INTO t VALUES (1)")
	require.Equal(t, []preflighttest.Seen{}, preflighttest.Short(f.Ask(t, LongTransactions)), "a young transaction is no finding")
	require.Equal(t, []preflighttest.Seen{}, preflighttest.Short(f.Ask(t, LongTransactions, preflighttest.AnyAge)), "one of ours is no finding")
	pgtest.Exec(t, f.Source, "SET application_name = 'billing'")
	found := f.Ask(t, LongTransactions, preflighttest.AnyAge)
	require.Len(t, found, 1)
	require.Equal(t, "long_transaction", found[0].Code)
	require.Contains(t, found[0].Detail, "idle in transaction")

	pgtest.Exec(t, f.Source, "PREPARE TRANSACTION 'it''s mine'")
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "prepared_transaction", "it's mine"}}, preflighttest.Short(f.Ask(t, PreparedTransactions)), "one of a moment ago is waited for")
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "prepared_transaction", "it's mine"}}, preflighttest.Short(f.Ask(t, PreparedTransactions, preflighttest.AnyAge)))
	require.Equal(t, answer.Warning, f.Ask(t, PreparedTransactions, preflighttest.CopyMode)[0].Severity)
	pgtest.Exec(t, f.Source, "ROLLBACK PREPARED 'it''s mine'")
	require.Empty(t, f.Ask(t, PreparedTransactions))
}

func TestAnUnlimitedServer(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	for name, check := range map[string]preflighttest.Check{"wal_level": WALLevel, "retention": Retention, "old snapshots": OldSnapshots, "capacity": Capacity} {
		require.Empty(t, f.Ask(t, check), name)
	}
}

func TestCapacityFindings(t *testing.T) {
	t.Parallel()
	free := usage{MaxSlots: 10, MaxSenders: 10, Locks: 6400, FreeConnections: 90, Clients: 10}
	require.Empty(t, capacityFindings(free, free))

	full := free
	full.Slots, full.Senders = 10, 10
	require.Len(t, capacityFindings(full, free), 2)
	full.OwnSlot = true
	require.Empty(t, capacityFindings(full, free), "our slot is one of those that are taken")

	small := free
	small.FreeConnections = 5
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "target_connections", "max_connections"}}, preflighttest.Short(capacityFindings(free, small)))
}

func TestLockFindings(t *testing.T) {
	t.Parallel()
	large, small := usage{Locks: 6400}, usage{Locks: 100}
	warning, blocker := preflighttest.Seen{answer.Warning, "lock_table_small", "max_locks_per_transaction"}, preflighttest.Seen{answer.Blocker, "lock_table_small", "max_locks_per_transaction"}
	for _, c := range []struct {
		mode           inquiry.Mode
		source, target usage
		tables         int
		want           []preflighttest.Seen
	}{
		{inquiry.Run, large, large, 3200, []preflighttest.Seen{}},
		{inquiry.Run, large, small, 50, []preflighttest.Seen{}},
		{inquiry.Run, large, small, 51, []preflighttest.Seen{warning}},
		{inquiry.Run, small, small, 60, []preflighttest.Seen{warning, warning}},
		{inquiry.Run, small, large, 110, []preflighttest.Seen{warning}},
		{inquiry.Run, small, large, 111, []preflighttest.Seen{blocker}},
		{inquiry.Copy, small, small, 110, []preflighttest.Seen{}},
		{inquiry.Copy, small, large, 111, []preflighttest.Seen{blocker}},
	} {
		require.Equal(t, c.want, preflighttest.Short(lockFindings(c.mode, c.source, c.target, c.tables)), "%+v", c)
	}
}

func TestNeighbours(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.Source, "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION crossfade FOR TABLE t")
	pgtest.Exec(t, f.Source, "SELECT pg_create_logical_replication_slot('crossfade_"+f.SourceDSN.Database()+"', 'pgoutput')")
	require.Empty(t, f.Ask(t, Neighbours), "ours are no neighbours")

	warehouse := "wh_" + f.SourceDSN.Database()
	pgtest.Exec(t, f.Source, "CREATE PUBLICATION warehouse FOR TABLE t")
	pgtest.Exec(t, f.Source, "SELECT pg_create_logical_replication_slot('"+warehouse+"', 'pgoutput')")
	pgtest.Exec(t, f.SourceAdmin, "CREATE SUBSCRIPTION feed_"+f.SourceDSN.Database()+" CONNECTION 'host=nowhere' PUBLICATION x WITH (connect = false, slot_name = NONE, enabled = false, create_slot = false)")
	require.ElementsMatch(t, []preflighttest.Seen{
		{answer.Warning, "foreign_publication", "warehouse"},
		{answer.Warning, "foreign_slot", warehouse},
		{answer.Warning, "foreign_subscription", "feed_" + f.SourceDSN.Database()},
	}, preflighttest.Short(f.Ask(t, Neighbours)))
	feed := "ALTER SUBSCRIPTION feed_" + f.SourceDSN.Database()
	pgtest.Exec(t, f.SourceAdmin, feed+" SET (slot_name = 'nowhere')")
	pgtest.Exec(t, f.SourceAdmin, feed+" ENABLE")
	require.Contains(t, preflighttest.Short(f.Ask(t, Neighbours)), preflighttest.Seen{answer.Blocker, "active_subscription", "feed_" + f.SourceDSN.Database()})
	pgtest.Exec(t, f.SourceAdmin, feed+" DISABLE")
	pgtest.Exec(t, f.SourceAdmin, feed+" SET (slot_name = NONE)")
	pgtest.Exec(t, f.SourceAdmin, "DROP SUBSCRIPTION feed_"+f.SourceDSN.Database())
}

func TestWayBack(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	wanted := func(o *inquiry.Options) { o.Fallback = true }
	require.Equal(t, []preflighttest.Seen{{answer.Info, "no_fallback", ""}}, preflighttest.Short(f.Ask(t, Fallback)), "its lack is told, and refuses nothing")
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "target_wal_level", "target"}}, preflighttest.Short(f.Ask(t, Fallback, wanted)))

	source := pgtest.Shared(t, pgtest.Source)
	require.Empty(t, preflighttest.On(t, source, source).Ask(t, Fallback, wanted))
}

// The setting is PostgreSQL 18's, so that no server of these tests has it.
func TestASlotThatIsGivenUpWhenIdleIsNamed(t *testing.T) {
	t.Parallel()
	idle := retentionFindings("-1", "1h")
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "slot_idle_limited", "idle_replication_slot_timeout"}}, preflighttest.Short(idle))
	require.Equal(t, "ALTER SYSTEM SET idle_replication_slot_timeout = 0", idle[0].SQL)
	_, value, _ := strings.Cut(idle[0].SQL, "= ")
	require.Empty(t, retentionFindings("-1", value))
}
