package snapshot

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestNothingIsReadUnderASnapshotWhoseTransactionsStillRun gives a holder a snapshot that sees a
// transaction which runs for others, as decoding does with one that is within its commit.
func TestNothingIsReadUnderASnapshotWhoseTransactionsStillRun(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	connect := func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, dsn) }
	committing, look := pgtest.Conn(t, dsn), pgtest.Conn(t, dsn)
	pgtest.Exec(t, committing, "BEGIN")
	var xid uint64
	require.NoError(t, committing.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text::bigint").Scan(&xid))
	h := &Holder{connect: connect, snap: pg.Snapshot{Xmin: xid + 1, Xmax: xid + 1}}

	done := make(chan error, 1)
	go func() { done <- h.settle(t.Context()) }()
	require.Eventually(t, func() bool { // it has looked, and looks again
		return pgtest.Value(t, look, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%SyncRep%' AND state = 'idle'") == "1"
	}, pgtest.Timeout, time.Millisecond)
	open, err := unsettled(t.Context(), look, h.snap)
	require.NoError(t, err)
	require.Contains(t, open, xid)
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	cut, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, h.settle(cut), context.Canceled)
	pgtest.Exec(t, committing, "COMMIT")
	// Other tests' transactions have lower numbers too, and end.
	require.NoError(t, <-done)
}

// TestACommitThatWaitsForAStandbyIsSettled has a commit wait for a synchronous standby that there
// is not: it is in pg_xact already, and may never end.
func TestACommitThatWaitsForAStandbyIsSettled(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t, pgtest.Source, func(c *pgcluster.Config) { c.Settings["synchronous_standby_names"] = "'nobody'" })
	admin := pgtest.Conn(t, c.AdminDSN("postgres"), pg.WithParam("synchronous_commit", "local"))
	committing := pgtest.Conn(t, c.AdminDSN("postgres"))
	pgtest.Exec(t, committing, "BEGIN; CREATE TABLE public.t ()")
	var xid uint64
	require.NoError(t, committing.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text::bigint").Scan(&xid))
	seen := pg.Snapshot{Xmin: xid + 1, Xmax: xid + 1}
	open, err := unsettled(t.Context(), admin, seen)
	require.NoError(t, err)
	require.Equal(t, []uint64{xid}, open)

	ended := make(chan error, 1)
	go func() { ended <- pg.Exec(t.Context(), committing, "COMMIT") }()
	require.Eventually(t, func() bool {
		open, err = unsettled(t.Context(), admin, seen)
		return err == nil && len(open) == 0
	}, pgtest.Timeout, time.Millisecond)
	require.Equal(t, "1", pgtest.Value(t, admin, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), "it has not ended")
	pgtest.Exec(t, admin, "ALTER SYSTEM SET synchronous_standby_names = ''")
	pgtest.Exec(t, admin, "SELECT pg_reload_conf()")
	require.NoError(t, <-ended)
}
