package daemon

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
	"crossfade/internal/app/apptest"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/ports"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
	"crossfade/replicate/slot"
)

// A session of someone on the target that holds a lock against the stream is told, with its table
// and since when.
func TestAStreamThatWaitsForALockNamesItsHolder(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	pgtest.Exec(t, b.Target, `DELETE FROM crossfade.progress`)
	name := "s_" + b.SourceDSN.Database()
	s, err := slot.Create(t.Context(), slot.Config{Name: name, Connect: func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, b.SourceDSN) },
		Replication: func(ctx context.Context) (*pgconn.PgConn, error) { return pg.ConnectReplication(ctx, b.SourceDSN) }})
	require.NoError(t, err)
	s.Release()
	d := bare(func(d *daemon) {
		d.core.stream = ports.NewFollowing()
		d.core.migration = migration.New(migration.Config{Phase: journal.PhaseIndexed})
		d.watches.watchlist = lockWatching(t, b)
		d.entry.joining = newJoining()
	})
	close(d.entry.joining.done)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() {
		ended <- d.core.stream.Run(ctx, apply.Config{Source: b.SourceDSN, Target: b.TargetDSN, TargetOptions: []pg.Option{pg.WithKey("k")}, LockTimeout: apptest.LockTimeout,
			Slot: name, Publication: journal.Publication, Start: s.ConsistentPoint, Logger: zerolog.Nop()})
	}()
	defer func() {
		cancel()
		require.NoError(t, <-ended)
	}()
	blocked := func() []machine.Obstacle { return d.answers.blocked(machine.Forward) }
	follows := func() bool { return len(blocked()) == 0 }
	require.Eventually(t, follows, pgtest.Timeout, time.Millisecond)

	for _, x := range []struct{ held, do, lock, statement string }{
		{"LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE", "INSERT INTO public.a VALUES (1, 's3cret')", "table public.a is locked by process ", "LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE"},
		{"UPDATE public.a SET v = 's3cret' WHERE id = 1", "UPDATE public.a SET v = 'ours' WHERE id = 1", "a row of table public.a is locked by process ", "UPDATE public.a SET v = ? WHERE id = ?"},
		{"INSERT INTO public.a VALUES (2, 's3cret')", "INSERT INTO public.a VALUES (2, 'ours')", `a row for WITH done AS (INSERT INTO "public"."a" `, "INSERT INTO public.a VALUES (?, ?)"},
	} {
		holder := pgtest.Conn(t, b.TargetDSN, pg.WithKey("k"))
		pgtest.Exec(t, holder, "SET application_name = 'nightly'")
		pgtest.Exec(t, holder, "BEGIN")
		pgtest.Exec(t, holder, x.held)
		begun := time.Now().Add(-time.Second) // what is told has whole seconds
		pgtest.Exec(t, b.Source, x.do)
		var told []machine.Obstacle
		require.Eventually(t, func() bool {
			d.follower.watchContention(ctx)
			told = blocked()
			return len(told) > 0 && terminates.MatchString(told[0].Remedy)
		}, pgtest.Timeout, time.Millisecond)
		require.Len(t, told, 1, "told once")
		require.Equal(t, "stream_waits", told[0].Code)
		for _, want := range []string{x.lock, ` of ` + b.TargetDSN.User() + ` (application "nightly", from `, "in a transaction open for ", "last statement: " + x.statement} {
			require.Contains(t, told[0].Detail, want)
		}
		require.NotContains(t, told[0].Detail, "s3cret")
		require.Contains(t, told[0].Remedy, "on the target: ")
		c, err := d.core.stream.Status()
		require.NoError(t, err)
		require.NotNil(t, c.Contended)
		require.WithinRange(t, c.Contended.Since, begun, time.Now())
		require.Contains(t, told[0].Detail, "since "+c.Contended.Since.UTC().Format("15:04:05 UTC"))
		pgtest.Exec(t, b.Target, terminates.FindString(told[0].Remedy)) // typed as printed
		require.Eventually(t, follows, pgtest.Timeout, time.Millisecond, "it goes on by itself")
	}

	// The holder of an earlier lock is not the holder of the present one.
	c := &apply.Contention{Since: time.Now(), Err: errors.New("lock timeout")}
	require.Equal(t, &control.Blocker{Code: "stream_waits", Detail: "the stream of changes has waited for a lock on the target since " + c.Since.UTC().Format("15:04:05 UTC") + ": lock timeout",
		Remedy: "wait: crossfade run looks for the session that holds it, and names it within seconds"}, contentionBlocker(c, &contention{since: c.Since.Add(-time.Second), wait: dbconn.Wait{Lock: "table public.a", Holders: []dbconn.Process{{PID: 1}}}}))
}
