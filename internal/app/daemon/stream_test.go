package daemon

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
	"crossfade/internal/app/apptest"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
	"crossfade/replicate/slot"
)

// A stream that has yet to begin, or that has ended, refuses a cutover by one code, until it runs.
func TestAStreamThatDoesNotRunIsToldOnceAndUntilItDoes(t *testing.T) {
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
		d.watches.watchlist = watch.New(nil, nil, zerolog.Nop())
		d.entry.joining = newJoining()
	})
	blocked := func() []machine.Obstacle { return d.answers.blocked(machine.Forward) }
	require.Len(t, blocked(), 1)
	require.Equal(t, machine.Obstacle{Code: "not_ready", Detail: "the journals of both sides are being read", Remedy: "wait: it takes a moment"}, blocked()[0])
	close(d.entry.joining.done)
	run := func() func() {
		t.Helper()
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error, 1)
		go func() {
			ended <- d.core.stream.Run(ctx, apply.Config{Source: b.SourceDSN, Target: b.TargetDSN, TargetOptions: []pg.Option{pg.WithKey("k")},
				Slot: name, Publication: journal.Publication, Start: s.ConsistentPoint, Logger: zerolog.Nop()})
		}()
		require.Eventually(t, func() bool { return len(blocked()) == 0 }, pgtest.Timeout, time.Millisecond, "it is enough to wait")
		return func() {
			cancel()
			require.NoError(t, <-ended)
		}
	}
	found := blocked()
	require.Len(t, found, 1, "told once")
	require.Equal(t, "stream_begins", found[0].Code)
	require.Contains(t, found[0].Detail, "does not run yet")
	require.Equal(t, "wait: it begins within seconds", found[0].Remedy)
	run()()

	d.core.stream = ports.NewFollowing()
	require.Error(t, d.core.stream.Run(t.Context(), apply.Config{Source: b.SourceDSN, Target: b.TargetDSN, TargetOptions: []pg.Option{pg.WithKey("k")},
		Slot: name + "_gone", Publication: journal.Publication, Start: s.ConsistentPoint, Logger: zerolog.Nop()}))
	found = blocked()
	require.Len(t, found, 1, "told once")
	require.Equal(t, "stream_stopped", found[0].Code)
	require.Contains(t, found[0].Detail, "the stream of changes has stopped: ")
	require.Contains(t, found[0].Detail, name+"_gone")
	require.Contains(t, found[0].Remedy, watch.GoOnRun)
	d.core.stream = ports.NewFollowing() // as the run that is started again
	run()()
}
