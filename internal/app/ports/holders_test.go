package ports_test

import (
	"context"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/apptest"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// requireNamed fails unless an error names a lock's table and all that is to be known of its
// holder.
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
	b := apptest.NewPortsFixture(t)
	apptest.Nightly(t, b, "LOCK TABLE public.b IN SHARE UPDATE EXCLUSIVE MODE")
	requireNamed(t, b.SourcePort.Prelock(context.Background(), 1, func(string) {}), "public.b", b.SourceDSN.User(), "LOCK TABLE public.b IN SHARE UPDATE EXCLUSIVE MODE")
}

func TestTheFenceNamesWhoHoldsTheTable(t *testing.T) {
	t.Parallel()
	for _, locked := range []bool{false, true} { // with the pre-lock, and without one
		b := apptest.NewPortsFixture(t)
		b.Pause(1)
		if locked {
			require.NoError(t, b.SourcePort.Prelock(context.Background(), 1, func(string) {}))
		}
		apptest.Nightly(t, b, "INSERT INTO public.a VALUES (1, 's3cret')")
		_, err := b.SourcePort.Fence(context.Background(), 1, "nonce")
		requireNamed(t, err, "public.a", b.SourceDSN.User(), "INSERT INTO public.a VALUES (?, ?)")
	}
}

// TestBypassingWritersAreSearchedBeforeTheGateCloses asks for the last step before the gate is
// closed.
func TestBypassingWritersAreSearchedBeforeTheGateCloses(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	ctx := context.Background()
	conn, pid := apptest.Nightly(t, b, "UPDATE public.b SET a_id = 4711")
	err := b.SourcePort.Prelock(ctx, 1, func(string) {})
	requireNamed(t, err, "public.b", b.SourceDSN.User(), "UPDATE public.b SET a_id = ?")
	require.ErrorContains(t, err, "with the gate closed")
	require.NoError(t, b.SourcePort.ReleasePrelock(ctx))

	// A session of the proxy is drained, and one that only reads is in nobody's way.
	b.SourcePort.ServerPIDs = func() []int32 { return []int32{pid} }
	require.NoError(t, b.SourcePort.Prelock(ctx, 1, func(string) {}))
	b.SourcePort.ServerPIDs = func() []int32 { return nil }
	pgtest.Exec(t, conn, "COMMIT; BEGIN; SELECT * FROM public.b FOR SHARE")
	require.NoError(t, b.SourcePort.Prelock(ctx, 1, func(string) {}))

	// A session that writes again and again, in short transactions, delays nothing.
	pgtest.Exec(t, conn, "UPDATE public.b SET a_id = 1")
	taken := make(chan error, 1)
	go func() { taken <- b.SourcePort.Prelock(ctx, 1, func(string) {}) }()
	for tick := time.NewTicker(dbconn.LockPoll); len(taken) == 0; <-tick.C {
		pgtest.Exec(t, conn, "COMMIT")
		pgtest.Exec(t, conn, "BEGIN; UPDATE public.b SET a_id = 1")
	}
	require.NoError(t, <-taken)

	// The remedy, typed as printed.
	err = b.SourcePort.Prelock(ctx, 1, func(string) {})
	require.Error(t, err)
	typed := regexp.MustCompile(`SELECT pg_terminate_backend\(\d+\)`).FindString(err.Error())
	pgtest.Exec(t, b.Source, typed)
	require.NoError(t, b.SourcePort.Prelock(ctx, 1, func(string) {}))
}

// TestWhateverWaitsForALockWhileArmingNamesItsHolder asks for the rest of what takes locks.
func TestWhateverWaitsForALockWhileArmingNamesItsHolder(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	b.SourcePort.Counting, b.SourcePort.Reading = dbconn.New(b.SourceDSN, pg.WithLockTimeout(apptest.LockTimeout)), dbconn.New(b.SourceDSN, pg.WithLockTimeout(apptest.LockTimeout))
	t.Cleanup(b.SourcePort.Counting.Close)
	t.Cleanup(b.SourcePort.Reading.Close)
	pgtest.Exec(t, b.Source, "CREATE TABLE public.c (id int)")
	// Long enough to find the holder on a busy machine as well.
	ctx, cancel := context.WithTimeout(context.Background(), 15*apptest.LockTimeout)
	defer cancel()
	held, _ := apptest.Nightly(t, b, "LOCK TABLE public.c IN ACCESS EXCLUSIVE MODE; ALTER SEQUENCE public.s OWNED BY public.c.id")
	const by = ` (application "nightly", from `
	_, err := b.SourcePort.PrepareFence(ctx)
	require.ErrorContains(t, err, "table public.c is locked by process ")
	require.ErrorContains(t, err, by)
	_, err = b.SourcePort.Sequences(context.Background())
	require.ErrorContains(t, err, "sequence public.s is locked by process ")
	require.ErrorContains(t, err, by)
	pgtest.Exec(t, held, "ROLLBACK")

	writer := pgtest.Conn(t, b.TargetDSN)
	pgtest.Exec(t, writer, "SET application_name = 'nightly'; BEGIN; LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE")
	err = b.TargetPort.RehearseDecision(context.Background(), cutover.DecisionInput{Epoch: 1, Direction: machine.Forward})
	requireNamed(t, err, "public.a", b.TargetDSN.User(), "SET application_name = ?; BEGIN; LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE")
	b.Pause(1)
	err = b.TargetPort.Decide(context.Background(), cutover.DecisionInput{Epoch: 1, Direction: machine.Forward, Nonce: "n"})
	requireNamed(t, err, "public.a", b.TargetDSN.User(), "SET application_name = ?; BEGIN; LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE")
}

func TestWhoWaitsForThePrelockIsNamed(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	lost := make(chan string, 1)
	require.NoError(t, b.SourcePort.Prelock(context.Background(), 1, func(why string) { lost <- why }))
	conn := pgtest.Conn(t, b.SourceDSN)
	pgtest.Exec(t, conn, "SET application_name = 'nightly'")
	pgtest.Exec(t, conn, "ALTER TABLE public.b ADD note text DEFAULT 's3cret'")
	why := <-lost
	for _, want := range []string{"let go for process ", " of " + b.SourceDSN.User() + ` (application "nightly"`, "statement: ALTER TABLE public.b ADD note text DEFAULT ?", "waits for table public.b"} {
		require.Contains(t, why, want)
	}
}

func TestACensusTellsTheLongestTransactions(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	_, pid := apptest.Nightly(t, b, "INSERT INTO public.a VALUES (1, 's3cret')")
	through, _ := apptest.Nightly(t, b, "SELECT 1")
	b.SourcePort.ServerPIDs = func() []int32 { return []int32{int32(through.PgConn().PID())} }
	c, err := b.SourcePort.Census(context.Background())
	require.NoError(t, err)
	require.Len(t, c.Transactions, 2)
	require.Contains(t, c.Transactions[0], "last statement: INSERT INTO public.a VALUES (?, ?)", "the longest first")
	require.Contains(t, c.Transactions[1], "through the proxy")
	require.Len(t, c.Bypass, 1)
	require.Equal(t, pid, c.Bypass[0].PID)
}

func TestTheRehearsalSaysThatTheStreamLags(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	applier := pgtest.Conn(t, b.TargetDSN)
	pgtest.Exec(t, applier, "BEGIN; UPDATE crossfade.progress SET end_lsn = '0/200'")
	err := b.TargetPort.RehearseDecision(context.Background(), cutover.DecisionInput{Epoch: 1, Direction: machine.Forward})
	require.ErrorIs(t, err, cutover.ErrLockTimeout, "it is tried again")
	require.ErrorContains(t, err, "the stream lags")
	require.NotContains(t, err.Error(), "lane 0: canceling", "not as the first word on it")
	require.True(t, pg.IsCode(err, pg.CodeLockNotAvailable))
}
