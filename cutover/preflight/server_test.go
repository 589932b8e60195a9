package preflight

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestReplicationRight(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Empty(t, f.ask(t, "replication"))
	pgtest.Exec(t, f.sourceAdmin, "ALTER ROLE "+f.sourceDSN.User()+" NOREPLICATION")
	found := f.ask(t, "replication")
	require.Equal(t, []seen{{answer.Blocker, "no_replication", f.sourceDSN.User()}}, short(found))

	p := f.pair(t, func(o *inquiry.Options) {
		o.OpenReplication = func(context.Context) error { return errors.New("connection reset") }
	})
	_, err := Replication(t.Context(), p)
	require.ErrorContains(t, err, "connection reset", "not knowing is no finding")
}

func TestSourceFindings(t *testing.T) {
	t.Parallel()
	require.Empty(t, sourceFindings("logical", false))
	require.Equal(t, []seen{{answer.Blocker, "source_is_standby", "source"}, {answer.Blocker, "wal_level", "source"}}, short(sourceFindings("replica", true)))
}

// What is about the whole server is looked at on a server of its own.
func TestALimitedServer(t *testing.T) {
	t.Parallel()
	source := pgtest.Own(t, pgtest.Source, func(c *pgcluster.Config) {
		c.Settings = map[string]string{
			"wal_level": "replica", "max_replication_slots": "1", "max_wal_senders": "1",
			"old_snapshot_threshold": "'60min'", "max_slot_wal_keep_size": "'1GB'",
		}
		if major(t) >= 17 {
			delete(c.Settings, "old_snapshot_threshold") // no such setting any more
		}
	})
	target := pgtest.Shared(t, pgtest.Target)
	f := fixtureOn(t, source, target)

	require.Equal(t, []seen{{answer.Blocker, "wal_level", "source"}}, short(f.ask(t, "wal_level")))
	require.Equal(t, []seen{{answer.Warning, "slot_wal_limited", "max_slot_wal_keep_size"}}, short(f.ask(t, "retention")))
	if major(t) < 17 {
		require.Equal(t, []seen{{answer.Warning, "old_snapshot_threshold", "old_snapshot_threshold"}}, short(f.ask(t, "old snapshots")))
	}
	require.Empty(t, f.ask(t, "capacity"))
	require.Empty(t, f.ask(t, "neighbours"))
	require.Empty(t, f.ask(t, "prepared transactions"))

	pgtest.Exec(t, f.sourceAdmin, "SELECT pg_create_physical_replication_slot('standby')")
	require.Equal(t, []seen{{answer.Blocker, "replication_slots_full", "max_replication_slots"}}, short(f.ask(t, "capacity")))
	require.Equal(t, []seen{{answer.Warning, "foreign_slot", "standby"}}, short(f.ask(t, "neighbours")))
	pgtest.Exec(t, f.sourceAdmin, "SELECT pg_drop_replication_slot('standby')")

	taken, err := pg.ConnectReplication(t.Context(), f.sourceDSN)
	require.NoError(t, err)
	require.Equal(t, []seen{{answer.Blocker, "wal_senders_full", "max_wal_senders"}}, short(f.ask(t, "capacity")))
	require.Empty(t, f.ask(t, "replication"), "which says it for both")
	require.NoError(t, taken.Close(context.Background()))

	pgtest.Exec(t, f.source, "CREATE TABLE t (a int)")
	pgtest.Exec(t, f.source, "BEGIN; INSERT INTO t VALUES (1)")
	require.Equal(t, []seen{}, short(f.ask(t, "long transactions")), "a young transaction is no finding")
	require.Equal(t, []seen{}, short(f.ask(t, "long transactions", anyAge)), "one of ours is no finding")
	pgtest.Exec(t, f.source, "SET application_name = 'billing'")
	found := f.ask(t, "long transactions", anyAge)
	require.Len(t, found, 1)
	require.Equal(t, "long_transaction", found[0].Code)
	require.Contains(t, found[0].Detail, "idle in transaction")

	pgtest.Exec(t, f.source, "PREPARE TRANSACTION 'it''s mine'")
	require.Equal(t, []seen{{answer.Warning, "prepared_transaction", "it's mine"}}, short(f.ask(t, "prepared transactions")), "one of a moment ago is waited for")
	require.Equal(t, []seen{{answer.Blocker, "prepared_transaction", "it's mine"}}, short(f.ask(t, "prepared transactions", anyAge)))
	require.Equal(t, answer.Warning, f.ask(t, "prepared transactions", copyMode)[0].Severity)
	pgtest.Exec(t, f.source, "ROLLBACK PREPARED 'it''s mine'")
	require.Empty(t, f.ask(t, "prepared transactions"))
}

func anyAge(o *inquiry.Options) { o.LongTransaction = time.Nanosecond }

func major(t *testing.T) int {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	return b.Major
}

func TestAnUnlimitedServer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, name := range []string{"wal_level", "retention", "old snapshots", "capacity"} {
		require.Empty(t, f.ask(t, name), name)
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
	require.Equal(t, []seen{{answer.Warning, "target_connections", "max_connections"}}, short(capacityFindings(free, small)))
}

func TestLockFindings(t *testing.T) {
	t.Parallel()
	large, small := usage{Locks: 6400}, usage{Locks: 100}
	warning, blocker := seen{answer.Warning, "lock_table_small", "max_locks_per_transaction"}, seen{answer.Blocker, "lock_table_small", "max_locks_per_transaction"}
	for _, c := range []struct {
		mode           inquiry.Mode
		source, target usage
		tables         int
		want           []seen
	}{
		{inquiry.Run, large, large, 3200, []seen{}},
		{inquiry.Run, large, small, 50, []seen{}},
		{inquiry.Run, large, small, 51, []seen{warning}},
		{inquiry.Run, small, small, 60, []seen{warning, warning}},
		{inquiry.Run, small, large, 110, []seen{warning}},
		{inquiry.Run, small, large, 111, []seen{blocker}},
		{inquiry.Copy, small, small, 110, []seen{}},
		{inquiry.Copy, small, large, 111, []seen{blocker}},
	} {
		require.Equal(t, c.want, short(lockFindings(c.mode, c.source, c.target, c.tables)), "%+v", c)
	}
}

func TestNeighbours(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.source, "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION crossfade FOR TABLE t")
	pgtest.Exec(t, f.source, "SELECT pg_create_logical_replication_slot('crossfade_"+f.sourceDSN.Database()+"', 'pgoutput')")
	require.Empty(t, f.ask(t, "neighbours"), "ours are no neighbours")

	warehouse := "wh_" + f.sourceDSN.Database()
	pgtest.Exec(t, f.source, "CREATE PUBLICATION warehouse FOR TABLE t")
	pgtest.Exec(t, f.source, "SELECT pg_create_logical_replication_slot('"+warehouse+"', 'pgoutput')")
	pgtest.Exec(t, f.sourceAdmin, "CREATE SUBSCRIPTION feed_"+f.sourceDSN.Database()+" CONNECTION 'host=nowhere' PUBLICATION x WITH (connect = false, slot_name = NONE, enabled = false, create_slot = false)")
	require.ElementsMatch(t, []seen{
		{answer.Warning, "foreign_publication", "warehouse"},
		{answer.Warning, "foreign_slot", warehouse},
		{answer.Warning, "foreign_subscription", "feed_" + f.sourceDSN.Database()},
	}, short(f.ask(t, "neighbours")))
	feed := "ALTER SUBSCRIPTION feed_" + f.sourceDSN.Database()
	pgtest.Exec(t, f.sourceAdmin, feed+" SET (slot_name = 'nowhere')")
	pgtest.Exec(t, f.sourceAdmin, feed+" ENABLE")
	require.Contains(t, short(f.ask(t, "neighbours")), seen{answer.Blocker, "active_subscription", "feed_" + f.sourceDSN.Database()})
	pgtest.Exec(t, f.sourceAdmin, feed+" DISABLE")
	pgtest.Exec(t, f.sourceAdmin, feed+" SET (slot_name = NONE)")
	pgtest.Exec(t, f.sourceAdmin, "DROP SUBSCRIPTION feed_"+f.sourceDSN.Database())
}

func TestWayBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	wanted := func(o *inquiry.Options) { o.Fallback = true }
	require.Equal(t, []seen{{answer.Info, "no_fallback", ""}}, short(f.ask(t, "way back")), "its lack is told, and refuses nothing")
	require.Equal(t, []seen{{answer.Blocker, "target_wal_level", "target"}}, short(f.ask(t, "way back", wanted)))

	source := pgtest.Shared(t, pgtest.Source)
	require.Empty(t, fixtureOn(t, source, source).ask(t, "way back", wanted))
}
