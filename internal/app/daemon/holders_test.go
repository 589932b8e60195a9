package daemon

import (
	"context"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// nightly is a session past the proxy that has an application's name.
func nightly(t *testing.T, b *bench, sql string) (*pgx.Conn, int32) {
	t.Helper()
	conn := pgtest.Conn(t, b.sourceDSN)
	pgtest.Exec(t, conn, "SET application_name = 'nightly'")
	var pid int32
	require.NoError(t, conn.QueryRow(context.Background(), "SELECT pg_backend_pid()").Scan(&pid))
	pgtest.Exec(t, conn, "BEGIN")
	pgtest.Exec(t, conn, sql)
	return conn, pid
}

// requireNamed fails unless an error names a lock's table and all that is to be known of its holder.
func requireNamed(t *testing.T, err error, table, user, statement string) {
	t.Helper()
	require.ErrorIs(t, err, cutover.ErrLockTimeout)
	require.ErrorContains(t, err, "table "+table+" is locked by process ")
	require.ErrorContains(t, err, " of "+user+` (application "nightly", from `)
	require.ErrorContains(t, err, "in a transaction open for ")
	require.ErrorContains(t, err, "last statement: "+statement)
	require.NotContains(t, err.Error(), "s3cret")
}

func TestThePrelockNamesWhoHoldsTheTable(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	nightly(t, b, "LOCK TABLE public.b IN SHARE UPDATE EXCLUSIVE MODE")
	requireNamed(t, b.src.Prelock(context.Background(), 1, func(string) {}), "public.b", b.sourceDSN.User(), "LOCK TABLE public.b IN SHARE UPDATE EXCLUSIVE MODE")
}

func TestTheFenceNamesWhoHoldsTheTable(t *testing.T) {
	t.Parallel()
	for _, locked := range []bool{false, true} { // with the pre-lock, and without one
		b := newBench(t)
		b.pause(1)
		if locked {
			require.NoError(t, b.src.Prelock(context.Background(), 1, func(string) {}))
		}
		nightly(t, b, "INSERT INTO public.a VALUES (1, 's3cret')")
		_, err := b.src.Fence(context.Background(), 1, "nonce")
		requireNamed(t, err, "public.a", b.sourceDSN.User(), "INSERT INTO public.a VALUES (?, ?)")
	}
}

// TestAWriterPastTheProxyIsLookedForBeforeTheGateCloses asks for the last step before the gate is closed.
func TestAWriterPastTheProxyIsLookedForBeforeTheGateCloses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := context.Background()
	conn, pid := nightly(t, b, "UPDATE public.b SET a_id = 4711")
	err := b.src.Prelock(ctx, 1, func(string) {})
	requireNamed(t, err, "public.b", b.sourceDSN.User(), "UPDATE public.b SET a_id = ?")
	require.ErrorContains(t, err, "with the gate closed")
	require.NoError(t, b.src.ReleasePrelock(ctx))

	// A session of the proxy is drained, and one that only reads is in nobody's way.
	b.src.serverPIDs = func() []int32 { return []int32{pid} }
	require.NoError(t, b.src.Prelock(ctx, 1, func(string) {}))
	b.src.serverPIDs = func() []int32 { return nil }
	pgtest.Exec(t, conn, "COMMIT; BEGIN; SELECT * FROM public.b FOR SHARE")
	require.NoError(t, b.src.Prelock(ctx, 1, func(string) {}))

	// Whoever writes again and again, in short transactions, keeps nobody.
	pgtest.Exec(t, conn, "UPDATE public.b SET a_id = 1")
	taken := make(chan error, 1)
	go func() { taken <- b.src.Prelock(ctx, 1, func(string) {}) }()
	for tick := time.NewTicker(dbconn.LockPoll); len(taken) == 0; <-tick.C {
		pgtest.Exec(t, conn, "COMMIT")
		pgtest.Exec(t, conn, "BEGIN; UPDATE public.b SET a_id = 1")
	}
	require.NoError(t, <-taken)

	// The remedy, typed as printed.
	err = b.src.Prelock(ctx, 1, func(string) {})
	require.Error(t, err)
	typed := regexp.MustCompile(`SELECT pg_terminate_backend\(\d+\)`).FindString(err.Error())
	pgtest.Exec(t, b.source, typed)
	require.NoError(t, b.src.Prelock(ctx, 1, func(string) {}))
}

// TestWhateverWaitsForALockWhileArmingNamesItsHolder asks for the rest of what takes locks.
func TestWhateverWaitsForALockWhileArmingNamesItsHolder(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.src.census, b.src.reading = dbconn.New(b.sourceDSN, pg.WithLockTimeout(testLockTimeout)), dbconn.New(b.sourceDSN, pg.WithLockTimeout(testLockTimeout))
	t.Cleanup(b.src.census.Close)
	t.Cleanup(b.src.reading.Close)
	pgtest.Exec(t, b.source, "CREATE TABLE public.c (id int)")
	ctx, cancel := context.WithTimeout(context.Background(), 5*testLockTimeout)
	defer cancel()
	held, _ := nightly(t, b, "LOCK TABLE public.c IN ACCESS EXCLUSIVE MODE; ALTER SEQUENCE public.s OWNED BY public.c.id")
	const by = ` (application "nightly", from `
	_, err := b.src.PrepareFence(ctx)
	require.ErrorContains(t, err, "table public.c is locked by process ")
	require.ErrorContains(t, err, by)
	_, err = b.src.Sequences(context.Background())
	require.ErrorContains(t, err, "sequence public.s is locked by process ")
	require.ErrorContains(t, err, by)
	pgtest.Exec(t, held, "ROLLBACK")

	stranger := pgtest.Conn(t, b.targetDSN)
	pgtest.Exec(t, stranger, "SET application_name = 'nightly'; BEGIN; LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE")
	err = b.dst.RehearseDecision(context.Background(), cutover.DecisionInput{Epoch: 1, Direction: machine.Forward})
	requireNamed(t, err, "public.a", b.targetDSN.User(), "SET application_name = ?; BEGIN; LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE")
	b.pause(1)
	err = b.dst.Decide(context.Background(), cutover.DecisionInput{Epoch: 1, Direction: machine.Forward, Nonce: "n"})
	requireNamed(t, err, "public.a", b.targetDSN.User(), "SET application_name = ?; BEGIN; LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE")
}

func TestWhoWaitsForThePrelockIsNamed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	lost := make(chan string, 1)
	require.NoError(t, b.src.Prelock(context.Background(), 1, func(why string) { lost <- why }))
	conn := pgtest.Conn(t, b.sourceDSN)
	pgtest.Exec(t, conn, "SET application_name = 'nightly'")
	pgtest.Exec(t, conn, "ALTER TABLE public.b ADD note text DEFAULT 's3cret'")
	why := <-lost
	for _, want := range []string{"let go for process ", " of " + b.sourceDSN.User() + ` (application "nightly"`, "statement: ALTER TABLE public.b ADD note text DEFAULT ?", "waits for table public.b"} {
		require.Contains(t, why, want)
	}
}

func TestACensusTellsTheLongestTransactions(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, pid := nightly(t, b, "INSERT INTO public.a VALUES (1, 's3cret')")
	through, _ := nightly(t, b, "SELECT 1")
	b.src.serverPIDs = func() []int32 { return []int32{int32(through.PgConn().PID())} }
	c, err := b.src.Census(context.Background())
	require.NoError(t, err)
	require.Len(t, c.Transactions, 2)
	require.Contains(t, c.Transactions[0], "last statement: INSERT INTO public.a VALUES (?, ?)", "the longest first")
	require.Contains(t, c.Transactions[1], "through the proxy")
	require.Len(t, c.Bypass, 1)
	require.Equal(t, pid, c.Bypass[0].PID)
}

func TestTheRehearsalSaysThatTheStreamLags(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	applier := pgtest.Conn(t, b.targetDSN)
	pgtest.Exec(t, applier, "BEGIN; UPDATE crossfade.progress SET end_lsn = '0/200'")
	err := b.dst.RehearseDecision(context.Background(), cutover.DecisionInput{Epoch: 1, Direction: machine.Forward})
	require.ErrorIs(t, err, cutover.ErrLockTimeout, "it is tried again")
	require.ErrorContains(t, err, "the stream lags")
	require.NotContains(t, err.Error(), "lane 0: canceling", "not as the first word on it")
	require.True(t, pg.IsCode(err, pg.CodeLockNotAvailable))
}
