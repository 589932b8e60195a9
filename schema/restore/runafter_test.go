package restore_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/pairtest"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// decided is a target with a partitioned table whose foreign key is still to be added, and the
// statements that do it.
func decided(t *testing.T) (p *pairtest.Pair, target *pgx.Conn, after []plan.Statement) {
	t.Helper()
	p = pairtest.New(t)
	pgtest.Exec(t, pgtest.Conn(t, p.Source), `CREATE SCHEMA busy; CREATE TABLE busy.reader (id int PRIMARY KEY);
		CREATE TABLE busy.fee (id int, reader int, CONSTRAINT fee_reader FOREIGN KEY (reader) REFERENCES busy.reader) PARTITION BY RANGE (id);
		CREATE TABLE busy.fee_low PARTITION OF busy.fee FOR VALUES FROM (0) TO (10); CREATE TABLE busy.fee_high PARTITION OF busy.fee DEFAULT`)
	planned, db := p.Plan(t)
	target = pgtest.Conn(t, p.Target)
	p.Restore(t, planned, plan.PreData, 1)
	p.Restore(t, planned, plan.AfterCopy, 1)
	pgtest.Exec(t, target, `INSERT INTO busy.reader VALUES (1)`)
	sql, err := planned.DecisionSQL(plan.DecisionConfig{Source: db, Target: db.Version / 10000})
	require.NoError(t, err)
	pairtest.InTx(t, target, func() error { return restore.Run(t.Context(), target, sql.Decide) })
	return p, target, sql.After
}

func requireKeyOfFee(t *testing.T, target *pgx.Conn) {
	t.Helper()
	require.Equal(t, "1", pgtest.Value(t, target, `SELECT count(*) FROM pg_constraint WHERE conname = 'fee_reader' AND conrelid = 'busy.fee'::regclass AND convalidated`))
}

// A statement whose writers leave it no moment takes its locks while they are held, and does that
// once.
func TestAKeyThatWritersLeaveNoMomentIsAddedInQuiet(t *testing.T) {
	t.Parallel()
	p, target, after := decided(t)
	writer := pgtest.Conn(t, p.Target)
	pgtest.Exec(t, writer, `BEGIN; INSERT INTO busy.fee VALUES (100, 1)`)
	waited, quiet := 0, 0
	refused, err := restore.RunAfter(t.Context(), target, after, restore.AfterConfig{
		Waits: func(s plan.Statement) {
			require.Equal(t, []pg.Name{{Schema: "busy", Name: "fee"}, {Schema: "busy", Name: "reader"}}, s.Locks)
			waited++
		},
		Quiet: func(ctx context.Context, _ plan.Statement, lock func(context.Context) error) (bool, error) {
			quiet++
			require.Equal(t, "400ms", pgtest.Value(t, target, "current_setting('lock_timeout')"), "it waits for longer than the tries before it")
			pgtest.Exec(t, writer, "COMMIT")
			return true, lock(ctx)
		},
	})
	require.NoError(t, err)
	require.Empty(t, refused)
	require.Equal(t, restore.AfterShortTries, waited)
	require.Equal(t, 1, quiet)
	requireKeyOfFee(t, target)
}

// Writers whose transactions last longer than the first tries wait for, and overlap, and take the
// tables in the other order than the foreign key does, neither keep it from being added nor see an
// error.
func TestAKeyOfAPartitionedTableIsAddedWhileWritersAreBusy(t *testing.T) {
	t.Parallel()
	p, target, after := decided(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan struct{})
	var writers errgroup.Group
	var busy sync.WaitGroup
	for n := range 4 {
		conn := pgtest.Conn(t, p.Target)
		busy.Add(1)
		writers.Go(func() error {
			ready := sync.OnceFunc(busy.Done)
			defer ready()
			for {
				select {
				case <-done:
					return nil
				default:
				}
				if err := pg.Exec(ctx, conn, `BEGIN; UPDATE busy.reader SET id = id WHERE id = -1; SELECT pg_sleep(0.08 + 0.02 * `+string(rune('0'+n))+`);
					INSERT INTO busy.fee VALUES (1, 1), (100, 1); SELECT pg_sleep(0.15); COMMIT`); err != nil {
					return err
				}
				ready()
			}
		})
	}
	busy.Wait()
	waited := 0
	refused, err := restore.RunAfter(ctx, target, after, restore.AfterConfig{Waits: func(plan.Statement) { waited++ }})
	close(done)
	require.NoError(t, writers.Wait())
	require.NoError(t, err)
	require.Empty(t, refused)
	requireKeyOfFee(t, target)
	t.Logf("%d tries had to be made again", waited)
}

// To add the key of a partitioned table, PostgreSQL before 18 removes triggers of the table that it
// refers to, for which it takes an ACCESS EXCLUSIVE lock there. A session that has a lock on that
// table, such as a check of the key takes, and asks for a stronger one meanwhile is not ended as
// the one that closes a deadlock.
func TestAWriterWhoseKeysAreCheckedIsNoVictimOfAKeyThatIsAdded(t *testing.T) {
	t.Parallel()
	p, target, after := decided(t)
	ctx, cancel := context.WithTimeout(t.Context(), pgtest.Timeout)
	defer cancel()
	writer, watching := pgtest.Conn(t, p.Target), pgtest.Conn(t, p.Target)
	pgtest.Exec(t, writer, `BEGIN; SELECT FROM busy.reader FOR KEY SHARE`)
	ended := make(chan error, 1)
	go func() {
		refused, err := restore.RunAfter(ctx, target, after, restore.AfterConfig{})
		if len(refused) > 0 {
			err = refused[0]
		}
		ended <- err
	}()
	waits := `SELECT count(*) FROM pg_locks WHERE relation = 'busy.reader'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted`
	require.Eventually(t, func() bool { return pgtest.Value(t, watching, waits) == "1" }, pgtest.Timeout, time.Millisecond)
	require.NoError(t, pg.Exec(ctx, writer, `UPDATE busy.reader SET id = id WHERE id = 1`))
	pgtest.Exec(t, writer, `COMMIT`)
	require.NoError(t, <-ended)
	requireKeyOfFee(t, target)
}

// The locks are taken in either order in turn, all of them in one wait's time, which does not bound
// what is done under them.
func TestTheLocksOfAStatementAreWaitedForTogether(t *testing.T) {
	t.Parallel()
	target := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Target)))
	pgtest.Exec(t, target, `CREATE TABLE public.one (id int); CREATE TABLE public.two (id int); CREATE TABLE public.seen (statement_timeout text)`)
	s := plan.Statement{SQL: "INSERT INTO public.seen VALUES (current_setting('statement_timeout'))", Locks: []pg.Name{{Schema: "public", Name: "one"}, {Schema: "public", Name: "two"}}}
	for n := 1; n <= 2; n++ {
		locked, err := restore.Try(t.Context(), s, target, n, 1234*time.Millisecond, func(ctx context.Context, lock func(context.Context) error) error {
			require.Equal(t, "1234ms", pgtest.Value(t, target, "current_setting('lock_timeout')"))
			err := lock(ctx)
			left := pgtest.Value(t, target, "SELECT setting::int BETWEEN 1 AND 1234 FROM pg_settings WHERE name = 'statement_timeout'")
			require.Equal(t, "true", left, "the last one has what the others have left")
			return err
		})
		require.NoError(t, err)
		require.False(t, locked)
	}
	require.Equal(t, "0 0", pgtest.Value(t, target, "SELECT string_agg(statement_timeout, ' ') FROM public.seen"))
	one, two := `LOCK TABLE "public"."one" IN SHARE ROW EXCLUSIVE MODE`, `LOCK TABLE "public"."two" IN SHARE ROW EXCLUSIVE MODE`
	require.Equal(t, []string{one, two}, restore.LockSQL(s, false))
	require.Equal(t, []string{two, one}, restore.LockSQL(s, true))
	s.Exclusive = s.Locks[1:]
	require.Equal(t, []string{one, `LOCK TABLE "public"."two" IN ACCESS EXCLUSIVE MODE`}, restore.LockSQL(s, false))
}

// A wait for locks ends before a session of the application is ended for a deadlock that it closes,
// and is short in any case.
func TestNoWaitForLocksIsAsLongAsADeadlockTakes(t *testing.T) {
	t.Parallel()
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN("postgres"))
	for ms, most := range map[string]time.Duration{"1000": 750 * time.Millisecond, "4000": 750 * time.Millisecond, "100": 75 * time.Millisecond} {
		pgtest.Exec(t, admin, "SET deadlock_timeout = "+ms)
		require.Equal(t, most, restore.MostLockWait(t.Context(), admin))
	}
	require.Equal(t, 400*time.Millisecond, restore.LongerWait(restore.AfterLockTimeout, 750*time.Millisecond))
	require.Equal(t, 750*time.Millisecond, restore.LongerWait(400*time.Millisecond, 750*time.Millisecond))
	require.Equal(t, 750*time.Millisecond, restore.LongerWait(750*time.Millisecond, 750*time.Millisecond))
	require.Equal(t, restore.AfterLockTimeout, restore.LongerWait(restore.AfterLockTimeout, 75*time.Millisecond), "it was as long before")
}

func TestTheApplicationIsLeftAloneForLongerThanItWaited(t *testing.T) {
	t.Parallel()
	require.Equal(t, 800*time.Millisecond, restore.RestAfter(200*time.Millisecond, false))
	require.Equal(t, 10*time.Second, restore.RestAfter(200*time.Millisecond, true))
	require.Equal(t, 12*time.Second, restore.RestAfter(3*time.Second, true))
}
