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
	b := newBench(t)
	pgtest.Exec(t, b.target, `DELETE FROM crossfade.progress`)
	name := "s_" + b.sourceDSN.Database()
	s, err := slot.Create(t.Context(), slot.Config{Name: name, Connect: func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, b.sourceDSN) },
		Replication: func(ctx context.Context) (*pgconn.PgConn, error) { return pg.ConnectReplication(ctx, b.sourceDSN) }})
	require.NoError(t, err)
	s.Release()
	d := &daemon{stream: newFollowing(), migration: &migration{phase: journal.PhaseIndexed}, watchlist: watch.New(nil, nil, zerolog.Nop()), joining: newJoining()}
	blocked := func() []machine.Obstacle { return d.blocked(machine.Forward) }
	require.Len(t, blocked(), 1)
	require.Equal(t, machine.Obstacle{Code: "not_ready", Detail: "the journals of both sides are being read", Remedy: "wait: it takes a moment"}, blocked()[0])
	close(d.joining.done)
	run := func() func() {
		t.Helper()
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error, 1)
		go func() {
			ended <- d.stream.run(ctx, apply.Config{Source: b.sourceDSN, Target: b.targetDSN, TargetOptions: []pg.Option{pg.WithKey("k")},
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

	d.stream = newFollowing()
	d.stream.err = errors.New("the slot was moved")
	found = blocked()
	require.Len(t, found, 1, "told once")
	require.Equal(t, "stream_stopped", found[0].Code)
	require.Equal(t, "the stream of changes has stopped: the slot was moved", found[0].Detail)
	require.Contains(t, found[0].Remedy, watch.GoOnRun)
	d.stream = newFollowing() // as the run that is started again
	run()()
}
