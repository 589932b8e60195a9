package daemon

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/apptest"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// terminates is the statement with which a remedy ends the holder of a lock.
var terminates = regexp.MustCompile(`SELECT pg_terminate_backend\(\d+\)(, pg_terminate_backend\(\d+\))*`)

// seenLockTimeout is long enough to find the holder of the lock, on a busy machine as well.
const seenLockTimeout = 3 * time.Second

// lockWatching is a list of watchers of two databases, whose waits for locks are bounded.
func lockWatching(t *testing.T, b *apptest.PortsFixture, watchers ...watch.Watcher) *watch.List {
	t.Helper()
	linked := func(d pg.DSN, opts ...pg.Option) *dbconn.Link {
		l := dbconn.New(d, opts...)
		t.Cleanup(l.Close)
		return l
	}
	short := pg.WithLockTimeout(seenLockTimeout)
	w := watch.New(linked(b.SourceDSN, short), linked(b.TargetDSN, pg.WithKey("k"), short), zerolog.Nop(), watchers...)
	w.Guards = [2]*dbconn.Link{linked(b.SourceDSN), linked(b.TargetDSN)}
	return w
}

// requireHolder fails unless a blocker names a lock's table, its side and all that is to be known
// of its holder.
func requireHolder(t *testing.T, b control.Blocker, side, table, user, statement string) {
	t.Helper()
	for _, want := range []string{"on the " + side + " table " + table + " is locked by process ", " of " + user + ` (application "nightly", from `,
		"in a transaction open for ", "last statement: " + statement} {
		require.Contains(t, b.Detail, want)
	}
	require.NotContains(t, b.Detail, "s3cret")
	require.Contains(t, b.Remedy, "on the "+side)
	require.Contains(t, b.Remedy, "by itself")
	require.Regexp(t, terminates, b.Remedy)
}

// A question that ended at a lock tells who holds it, as what waits for a lock while arming does,
// and how to go on.
func TestAWatcherThatWaitsForALockNamesItsHolder(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := apptest.NewPortsFixture(t)
	for _, conn := range []*pgx.Conn{b.Source, b.Target} {
		pgtest.Exec(t, conn, "CREATE TABLE public.u (id int PRIMARY KEY)")
	}
	for side, dsn := range map[string]pg.DSN{"source": b.SourceDSN, "target": b.TargetDSN} {
		tables := watch.Watcher{Name: "rows", Ask: func(ctx context.Context, source, target *pgx.Conn) ([]watch.Notice, error) {
			for _, conn := range []*pgx.Conn{source, target} {
				if _, err := conn.Exec(ctx, "SELECT FROM public.u"); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}}
		w := lockWatching(t, b, tables)
		require.NoError(t, w.Poll(ctx, false))
		require.Empty(t, w.Blocked(true))
		holder := pgtest.Conn(t, dsn, pg.WithKey("k"))
		pgtest.Exec(t, holder, "SET application_name = 'nightly'")
		pgtest.Exec(t, holder, "BEGIN; LOCK TABLE public.u IN ACCESS EXCLUSIVE MODE; SELECT 's3cret'")
		const statement = "BEGIN; LOCK TABLE public.u IN ACCESS EXCLUSIVE MODE; SELECT ?"

		require.ErrorContains(t, w.Confirm(ctx, false), "table public.u is locked by process ", "a cutover that asks is told")
		told := []control.Blocker(nil)
		require.Eventually(t, func() bool {
			err := w.Poll(ctx, false)
			told = w.Blocked(true)
			return err != nil && strings.Contains(err.Error(), "table public.u is locked by process ") && len(told) > 0
		}, pgtest.Timeout, time.Millisecond, "the last answer gets too old")
		require.Len(t, told, 1, "told once")
		require.Equal(t, "not_watched_yet", told[0].Code)
		require.Contains(t, told[0].Detail, "rows: ")
		requireHolder(t, told[0], side, "public.u", dsn.User(), statement)
		w = lockWatching(t, b, tables) // as after a start
		require.ErrorContains(t, w.Poll(ctx, false), "table public.u is locked by process ")
		told = w.Blocked(true)
		require.Len(t, told, 1, "told once")
		require.Equal(t, "not_watched_yet", told[0].Code)
		requireHolder(t, told[0], side, "public.u", dsn.User(), statement)

		pgtest.Exec(t, pgtest.Conn(t, dsn), terminates.FindString(told[0].Remedy)) // typed as printed
		require.NoError(t, w.Poll(ctx, false))
		require.Empty(t, w.Blocked(true))
	}
}

// Who held a lock that the question got in the end has nothing to do with what it ended at, and one
// whose transaction is prepared has no process that could be ended.
func TestAWatcherNamesOnlyWhoHeldTheLockAtItsEnd(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	ask := func(ctx context.Context, source, target *pgx.Conn) ([]watch.Notice, error) {
		if _, err := source.Exec(ctx, "SELECT FROM public.a"); err != nil {
			return nil, err
		}
		_, err := target.Exec(ctx, "SELECT FROM public.b")
		return nil, err
	}
	w := lockWatching(t, b, watch.Watcher{Name: "rows", Ask: ask})
	held, pid := apptest.Nightly(t, b, "LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE")
	other := pgtest.Conn(t, b.TargetDSN)
	pgtest.Exec(t, other, "BEGIN; LOCK TABLE public.b IN ACCESS EXCLUSIVE MODE")
	ended := make(chan error, 1)
	go func() {
		const waits = `SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))`
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			var n int
			if err := b.Source.QueryRow(context.Background(), waits, pid).Scan(&n); err != nil || n > 0 {
				_, err = held.Exec(context.Background(), "ROLLBACK")
				ended <- err
				return
			}
		}
	}()
	err := w.Poll(t.Context(), false)
	require.NoError(t, <-ended)
	require.ErrorContains(t, err, "on the target table public.b is locked by process "+fmt.Sprint(other.PgConn().PID()))
	require.NotContains(t, err.Error(), "public.a")

	require.Equal(t, "end the prepared transaction on the source, with COMMIT PREPARED or ROLLBACK PREPARED and the gid that SELECT gid, prepared, owner FROM pg_prepared_xacts shows",
		dbconn.Wait{Holders: []dbconn.Process{{}}}.Remedy("source"))
	require.Equal(t, "let these transactions end, or end them on the source: SELECT pg_terminate_backend(5), pg_terminate_backend(6)",
		dbconn.Wait{Holders: []dbconn.Process{{PID: 5}, {PID: 6}}}.Remedy("source"))
	require.Equal(t, "wait: a session of crossfade's own holds it",
		dbconn.Wait{Holders: []dbconn.Process{{PID: 5, Application: "crossfade index"}}}.Remedy("source"))
}

// pg_dump waits in a session of its own, and says only which table it wanted.
func TestAComparisonThatWaitsForALockNamesItsHolder(t *testing.T) {
	t.Parallel()
	for side := range dbconn.SideNames {
		w := apptest.NewWatched(t, apptest.WatchedTables+`; CREATE TABLE public.z (id int PRIMARY KEY)`)
		require.Empty(t, w.Told(w.Comparer.Ask))
		w.Comparer.Migration.Task.Options.Schema.LockWaitTimeout = 3 * seenLockTimeout
		dsn := []pg.DSN{w.SourceDSN, w.Comparer.Migration.Task.Target}[side]
		pgtest.Exec(t, w.Source, "ALTER TABLE public.a ENABLE ROW LEVEL SECURITY; ALTER TABLE public.a ADD x int")
		holder := pgtest.Conn(t, dsn)
		pgtest.Exec(t, holder, "SET application_name = 'nightly'")
		pgtest.Exec(t, holder, "BEGIN")
		pgtest.Exec(t, holder, "LOCK TABLE public.z IN ACCESS EXCLUSIVE MODE")
		found, err := w.Comparer.Ask(t.Context(), w.Source, w.Target)
		require.NoError(t, err)
		require.Len(t, found, 1, "told once")
		require.Equal(t, "definitions_compared", found[0].Code)
		require.False(t, found[0].Warns)
		requireHolder(t, found[0].Blocker, dbconn.SideNames[side], "public.z", dsn.User(), "LOCK TABLE public.z IN ACCESS EXCLUSIVE MODE")
		pgtest.Exec(t, pgtest.Conn(t, dsn), terminates.FindString(found[0].Remedy)) // typed as printed
		require.Contains(t, w.Told(w.Comparer.Ask)[0], "definition_differs", "it has come to its end")
	}
}
