package journal_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

const lockTimeout = 200 * time.Millisecond

var (
	patience = journal.Patience{LockTimeout: lockTimeout}
	together = journal.Patience{LockTimeout: lockTimeout, Together: journal.Together}
)

func source(t *testing.T) (pg.DSN, *pgx.Conn) {
	t.Helper()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	conn := pgtest.Conn(t, dsn)
	require.NoError(t, journal.InstallSource(context.Background(), conn, journal.SourceRun{RunID: "r1", Key: "k1"}))
	return dsn, conn
}

func TestStepsAreComparedAndSet(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn, conn := source(t)
	r, err := journal.Take(ctx, conn, "a")
	require.NoError(t, err)
	require.Equal(t, journal.SourceRun{RunID: "r1", Direction: "forward", Step: "copying", Coordinator: "a"}, r)
	resting := []string{"copying", "idle"}
	require.ErrorIs(t, journal.Claim(ctx, conn, 1, "forward", "b", resting), journal.ErrMoved)
	require.ErrorIs(t, journal.Claim(ctx, conn, 2, "forward", "a", resting), journal.ErrMoved)
	require.ErrorIs(t, journal.Claim(ctx, conn, 1, "forward", "a", []string{"idle"}), journal.ErrMoved)
	require.NoError(t, journal.Claim(ctx, conn, 1, "forward", "a", resting))
	require.ErrorIs(t, journal.Claim(ctx, conn, 1, "forward", "a", resting), journal.ErrMoved)
	require.ErrorIs(t, journal.Advance(ctx, conn, 1, "b", "arming", "pausing"), journal.ErrMoved)
	require.ErrorIs(t, journal.Advance(ctx, conn, 1, "a", "fenced", "pausing"), journal.ErrMoved)
	require.NoError(t, journal.Advance(ctx, conn, 1, "a", "arming", "pausing"))
	require.NoError(t, journal.AdvanceFenced(ctx, conn, 1, "a", "pausing", "fenced", "n1"))
	got, err := journal.LoadSource(ctx, conn)
	require.NoError(t, err)
	require.Equal(t, &journal.SourceRun{RunID: "r1", Direction: "forward", Epoch: 1, Step: "fenced", Coordinator: "a", Nonce: "n1"}, got)
	_, err = journal.Take(ctx, conn, "b")
	require.NoError(t, err)
	require.ErrorIs(t, journal.AdvanceFrom(ctx, conn, 1, "a", []string{"fenced"}, "idle"), journal.ErrMoved)
	require.NoError(t, journal.AdvanceFrom(ctx, conn, 1, "b", []string{"fenced", "draining"}, "idle"))

	require.NoError(t, journal.Lead(ctx, conn))
	require.ErrorContains(t, journal.Lead(ctx, pgtest.Conn(t, dsn)), "another Crossfade process")
}

func TestFenceStopsEveryWayOfWriting(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn, conn := source(t)
	pgtest.Exec(t, conn, `CREATE TABLE plain (a int PRIMARY KEY); INSERT INTO plain VALUES (1);
		CREATE TABLE root (a int, b int) PARTITION BY RANGE (a);
		CREATE TABLE "Leaf one" PARTITION OF root FOR VALUES FROM (0) TO (10);`)
	require.NoError(t, journal.PrepareFence(ctx, conn, patience, false))
	app := pgtest.Conn(t, dsn)
	pgtest.Exec(t, app, "INSERT INTO root VALUES (1, 1)")
	st, err := journal.ReadFence(ctx, conn)
	require.NoError(t, err)
	require.Equal(t, journal.FenceState{Tables: 3, Ready: 3}, st)

	// An application that switches all triggers of a table off and on again must
	// not shut the fence by that.
	pgtest.Exec(t, app, "ALTER TABLE plain DISABLE TRIGGER USER; ALTER TABLE plain ENABLE TRIGGER USER; INSERT INTO plain VALUES (100)")
	tables, err := journal.Tables(ctx, conn)
	require.NoError(t, err)
	old := pgtest.Conn(t, dsn) // a snapshot taken before the fence must not leak through it
	pgtest.Exec(t, old, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_catalog.pg_class")
	require.NoError(t, journal.Transact(ctx, conn, lockTimeout, journal.CloseFence(tables)))
	st, err = journal.ReadFence(ctx, conn)
	require.NoError(t, err)
	require.True(t, st.Shut && st.Enabled == st.Tables, "%+v", st)
	for _, c := range []*pgx.Conn{app, old} {
		for _, sql := range []string{
			"INSERT INTO plain VALUES (2)", "UPDATE plain SET a = 3", "DELETE FROM plain", "TRUNCATE plain",
			"INSERT INTO root VALUES (2, 2)", `INSERT INTO "Leaf one" VALUES (2, 2)`, "TRUNCATE root", "COPY plain FROM STDIN",
		} {
			_, err := c.Exec(ctx, sql)
			require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(err), sql)
			if c == old {
				pgtest.Exec(t, old, "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_catalog.pg_class")
			}
		}
	}
	ours := pgtest.Conn(t, dsn, pg.WithKey("k1"))
	pgtest.Exec(t, ours, "INSERT INTO plain VALUES (2); INSERT INTO root VALUES (2, 2)")
	wrong := pgtest.Conn(t, dsn, pg.WithKey("other"))
	_, err = wrong.Exec(ctx, "INSERT INTO plain VALUES (9)")
	require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(err))

	// Without its row the fence lets nobody pass, rather than everybody.
	pgtest.Exec(t, conn, "BEGIN; DELETE FROM crossfade.run")
	_, err = conn.Exec(ctx, "INSERT INTO plain VALUES (9)")
	require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(err))
	pgtest.Exec(t, conn, "ROLLBACK")

	require.NoError(t, journal.Transact(ctx, conn, lockTimeout, journal.OpenFence))
	pgtest.Exec(t, app, "INSERT INTO plain VALUES (3)")
	pgtest.Exec(t, old, "ROLLBACK")
	n, err := journal.DropFence(ctx, conn, patience)
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.NoError(t, journal.Uninstall(ctx, conn))
	there, err := journal.Installed(ctx, conn)
	require.NoError(t, err)
	require.False(t, there)
}

func TestPrepareFenceNeverBlocksTheApplicationForLong(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
	defer cancel()
	dsn, conn := source(t)
	pgtest.Exec(t, conn, "CREATE TABLE busy (a int)")
	app := pgtest.Conn(t, dsn)
	pgtest.Exec(t, app, "BEGIN; INSERT INTO busy VALUES (1)") // holds ROW EXCLUSIVE
	done := make(chan error, 1)
	go func() { done <- journal.PrepareFence(ctx, conn, patience, false) }()
	second := pgtest.Conn(t, dsn)
	pgtest.Exec(t, second, "SET lock_timeout = '450ms'")
	for ctx.Err() == nil { // a writer behind our lock request waits for one bound at most
		_, err := second.Exec(context.Background(), "INSERT INTO busy VALUES (2)")
		require.NoError(t, err)
	}
	err := <-done
	require.Error(t, err)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	pgtest.Exec(t, app, "COMMIT")
}

// A cutover prepares the fence while the monitor of the run may be doing the same.
func TestTwoMayPrepareTheFenceAtOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn, conn := source(t)
	pgtest.Exec(t, conn, "CREATE TABLE shared (i int)")
	other := pgtest.Conn(t, dsn)
	pgtest.Exec(t, other, "BEGIN; CREATE TRIGGER "+journal.FenceTrigger+" BEFORE INSERT ON shared FOR EACH STATEMENT EXECUTE FUNCTION crossfade.fence()")
	worker := pgtest.Conn(t, dsn)
	done := make(chan error, 1)
	go func() { done <- journal.PrepareFence(ctx, worker, journal.Patience{LockTimeout: time.Minute}, false) }()
	require.Eventually(t, func() bool {
		var waits bool
		err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'shared'::regclass)").Scan(&waits)
		return err == nil && waits
	}, time.Minute, 10*time.Millisecond)
	pgtest.Exec(t, other, "COMMIT")
	require.NoError(t, <-done)
}

// Tables that share a transaction are taken one by one where that cannot be had,
// and one that is gone is passed over.
func TestTogetherOrOneByOne(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn, conn := source(t)
	tables, err := journal.Tables(ctx, conn)
	require.NoError(t, err)
	all := len(tables) + 3
	pgtest.Exec(t, conn, "CREATE TABLE a (i int); CREATE TABLE busy (i int); CREATE TABLE z (i int)")
	app := pgtest.Conn(t, dsn)
	pgtest.Exec(t, app, "BEGIN; LOCK TABLE busy IN ACCESS EXCLUSIVE MODE")
	done := make(chan error, 1)
	worker := pgtest.Conn(t, dsn)
	go func() { done <- journal.PrepareFence(ctx, worker, together, true) }()
	require.Eventually(t, func() bool {
		var n int
		err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_trigger WHERE tgname = $1", journal.FenceTrigger).Scan(&n)
		return err == nil && n > 0
	}, time.Minute, 10*time.Millisecond, "tables before the locked one get theirs")
	require.Empty(t, done)
	pgtest.Exec(t, app, "COMMIT")
	require.NoError(t, <-done)
	pgtest.Exec(t, app, "BEGIN; DROP TABLE busy")
	go func() {
		_, err := journal.DropFence(ctx, worker, together)
		done <- err
	}()
	require.Eventually(t, func() bool {
		missing, err := journal.MissingFence(ctx, conn)
		return err == nil && len(missing) > 0
	}, time.Minute, 10*time.Millisecond)
	pgtest.Exec(t, app, "COMMIT")
	require.NoError(t, <-done)
	missing, err := journal.MissingFence(ctx, conn)
	require.NoError(t, err)
	require.Len(t, missing, all-1)
}

func TestTheRegisterDecidesOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	conn := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Target)))
	require.NoError(t, journal.InstallTarget(ctx, conn, journal.TargetRun{RunID: "r", Key: "k", Mode: "run", SourceSystem: "1", SourceDatabase: "d"}))
	d, err := journal.ReadDecision(ctx, conn, 1)
	require.NoError(t, err)
	require.Equal(t, journal.Undecided, d)
	d, err = journal.Reject(ctx, conn, 1)
	require.NoError(t, err)
	require.Equal(t, journal.Abort, d)
	pgtest.Exec(t, conn, "INSERT INTO crossfade.decision (epoch, decision, nonce) VALUES (2, 'commit', 'n')")
	d, err = journal.Reject(ctx, conn, 2)
	require.NoError(t, err)
	require.Equal(t, journal.Commit, d)
	last, err := journal.LastCommit(ctx, conn)
	require.NoError(t, err)
	require.EqualValues(t, 2, last.Epoch)
	require.Equal(t, "n", last.Nonce)
	require.NotZero(t, last.LSN)

	require.NoError(t, journal.SetSlot(ctx, conn, "s", 0x100000001, "7:7:"))
	identities := []journal.Identity{{Side: journal.SideSource, OID: 7, State: "a"}, {Side: journal.SideTarget, OID: 7, State: "b"}}
	require.NoError(t, journal.KeepDefinitions(ctx, conn, journal.Definitions{Archive: []byte{0, 1, 255}, Digest: "d", Roles: "r", Identities: identities}))
	require.NoError(t, journal.KeepNewer(ctx, conn, []byte{2}, "e"))
	require.NoError(t, journal.SaveIdentities(ctx, conn, []journal.Identity{{Side: journal.SideTarget, OID: 7, State: "c"}}))
	kept, err := journal.LoadIdentities(ctx, conn)
	require.NoError(t, err)
	require.ElementsMatch(t, []journal.Identity{identities[0], {Side: journal.SideTarget, OID: 7, State: "c"}}, kept)
	require.NoError(t, journal.SetPhase(ctx, conn, journal.PhaseCopied))
	r, err := journal.LoadTarget(ctx, conn)
	require.NoError(t, err)
	require.Equal(t, []byte{0, 1, 255}, r.Archive)
	require.Equal(t, []byte{2}, r.ArchiveNow)
	require.Equal(t, "e", r.Digest)
	require.Equal(t, "r", r.Roles)
	require.EqualValues(t, 0x100000001, r.Consistent)
	require.True(t, r.Phase.AtLeast(journal.PhaseDumped))
	require.False(t, r.Phase.AtLeast(journal.PhaseIndexed))
}

func TestCensusKnowsOursAndExpelsOtherIncarnations(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dsn, conn := source(t)
	bypass := pgtest.Conn(t, dsn, pg.WithParam("application_name", "cron"))
	proxied := pgtest.Conn(t, dsn, pg.WithParam("application_name", "shop"))
	dead := pgtest.Conn(t, dsn)
	pid := func(c *pgx.Conn) int32 { return int32(c.PgConn().PID()) }
	require.NoError(t, journal.RegisterBackends(ctx, conn, "old", []int32{pid(dead)}))
	require.NoError(t, journal.RegisterBackends(ctx, conn, "new", []int32{pid(proxied), 999999999}))
	for _, c := range []*pgx.Conn{bypass, proxied} {
		pgtest.Exec(t, c, "SET application_name = 'app'")
	}
	w, err := journal.Census(ctx, conn, []int32{pid(proxied)})
	require.NoError(t, err)
	require.Len(t, w, 1)
	require.Equal(t, pid(bypass), w[0].PID)
	n, err := journal.Expel(ctx, conn, "new")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	_, err = dead.Exec(ctx, "SELECT 1")
	require.True(t, pg.ConnectionLost(err), "%v", err)
	pgtest.Exec(t, proxied, "SELECT 1")
}
