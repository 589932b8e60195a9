package ports_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/internal/app/apptest"
	"crossfade/internal/app/ports"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
	"crossfade/replicate/progress"
	"crossfade/replicate/slot"
)

func TestOnlyTheAppliedMarkerEndsTheDrain(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pgtest.Exec(t, b.Target, `DELETE FROM crossfade.progress`)
	name := "s_" + b.SourceDSN.Database()
	s, err := slot.Create(ctx, slot.Config{Name: name, Connect: func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, b.SourceDSN) },
		Replication: func(ctx context.Context) (*pgconn.PgConn, error) { return pg.ConnectReplication(ctx, b.SourceDSN) }})
	require.NoError(t, err)
	s.Release()
	f := ports.NewFollowing()
	ended := make(chan error, 1)
	go func() {
		ended <- f.Run(ctx, apply.Config{Source: b.SourceDSN, Target: b.TargetDSN, TargetOptions: []pg.Option{pg.WithKey("k")},
			Slot: name, Publication: journal.Publication, Start: s.ConsistentPoint, Logger: zerolog.Nop()})
	}()
	require.Eventually(t, func() bool { st, err := f.Status(); return err == nil && st.SourceConnected }, pgtest.Timeout, time.Millisecond)

	// The row that comes before the marker cannot be applied while its table is locked.
	blocker := pgtest.Conn(t, b.TargetDSN)
	pgtest.Exec(t, blocker, "BEGIN; LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, f.Expect(3, "nonce"))
	pgtest.Exec(t, b.Source, "INSERT INTO public.a VALUES (1, 'before the marker')")
	pgtest.Exec(t, b.Source, "SELECT pg_logical_emit_message(true, 'crossfade.marker', 'nonce')")
	short, stop := context.WithTimeout(ctx, 500*time.Millisecond)
	require.Error(t, f.WaitMarker(short, cutover.Marker{Epoch: 3, Nonce: "nonce"}), "the marker is not applied yet")
	stop()
	require.Zero(t, f.MarkerEnd())
	pgtest.Exec(t, blocker, "COMMIT")
	long, stop := context.WithTimeout(ctx, pgtest.Timeout)
	defer stop()
	require.NoError(t, f.WaitMarker(long, cutover.Marker{Epoch: 3, Nonce: "nonce"}))
	require.NotZero(t, f.MarkerEnd())
	require.Equal(t, "before the marker", pgtest.Value(t, b.Target, "SELECT v FROM public.a"))

	// After the marker nothing is applied, and a write by another session raises an alarm for the
	// epoch.
	pgtest.Exec(t, b.Source, "INSERT INTO public.a VALUES (2, 'behind it')")
	trip := <-f.Tripped()
	require.EqualValues(t, 3, trip.Epoch)
	require.Contains(t, trip.Detail, "public.a")
	require.Equal(t, "1", pgtest.Value(t, b.Target, "SELECT count(*) FROM public.a"))
	require.NoError(t, f.Continue(ctx, 3)) // after an abort nothing is missing
	require.Eventually(t, func() bool { return pgtest.Value(t, b.Target, "SELECT count(*) FROM public.a") == "2" }, pgtest.Timeout, time.Millisecond)
	// The next reader waits until the applier's walsender has gone.
	_, err = ports.RestFrom(ctx, b.Source, name)
	require.ErrorContains(t, err, "still streams")
	reached := f.MarkerEnd()
	cancel()
	require.NoError(t, <-ended)
	require.Eventually(t, func() bool {
		from, err := ports.RestFrom(t.Context(), b.Source, name)
		return err == nil && from >= reached
	}, pgtest.Timeout, time.Millisecond)
}

// TestACrashOfTheClosedSourceIsNoAlarm: the slot of a source that crashed is where it last
// was on disk, so that all that was applied since comes again. None of it is a writer
// after the marker, and one that is, is told once.
func TestACrashOfTheClosedSourceIsNoAlarm(t *testing.T) {
	t.Parallel()
	own := pgtest.Own(t, pgtest.Source)
	b := apptest.PortsFixtureOn(t, pgtest.Database(t, own))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pgtest.Exec(t, b.Target, `DELETE FROM crossfade.progress`)
	name := "s_" + b.SourceDSN.Database()
	s, err := slot.Create(ctx, slot.Config{Name: name, Connect: func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, b.SourceDSN) },
		Replication: func(ctx context.Context) (*pgconn.PgConn, error) { return pg.ConnectReplication(ctx, b.SourceDSN) }})
	require.NoError(t, err)
	s.Release()
	cfg := apply.Config{Source: b.SourceDSN, Target: b.TargetDSN, TargetOptions: []pg.Option{pg.WithKey("k")},
		Slot: name, Publication: journal.Publication, Start: s.ConsistentPoint, Logger: zerolog.Nop()}
	f := ports.NewFollowing()
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx, cfg) }()
	require.Eventually(t, func() bool { st, err := f.Status(); return err == nil && st.SourceConnected }, pgtest.Timeout, time.Millisecond)
	require.NoError(t, f.Expect(1, "nonce"))
	for range 50 {
		pgtest.Exec(t, b.Source, "INSERT INTO public.a SELECT coalesce(max(id), 0) + 1, 'acknowledged' FROM public.a")
	}
	pgtest.Exec(t, b.Source, "SELECT pg_logical_emit_message(true, 'crossfade.marker', 'nonce')")
	long, stop := context.WithTimeout(ctx, pgtest.Timeout)
	defer stop()
	require.NoError(t, f.WaitMarker(long, cutover.Marker{Epoch: 1, Nonce: "nonce"}))
	reached := f.MarkerEnd()
	_, err = progress.Close(ctx, b.Target, ports.Lane, reached)
	require.NoError(t, err)
	f.EndApplier()
	require.NoError(t, <-ended)

	require.NoError(t, own.Stop(long, pgcluster.Immediate))
	require.NoError(t, own.StartServer(long))
	source := pgtest.Conn(t, b.SourceDSN)
	marker, err := ports.ClosedAt(ctx, b.Target)
	require.NoError(t, err)
	require.Equal(t, reached, marker)
	pgtest.Exec(t, source, "INSERT INTO public.a VALUES (1000, 'stranger')")
	watched := ports.NewFollowing() // as after a start of this program
	for range 2 {                   // again after a connection that was lost
		from, err := ports.RestFrom(ctx, source, name)
		require.NoError(t, err)
		require.Less(t, from, reached, "it has forgotten what it was told")
		watching, stop := context.WithCancel(ctx)
		go func() { ended <- watched.Watch(watching, cfg, 1, from, marker) }()
		require.Eventually(t, func() bool {
			return pgtest.Value(t, source, `SELECT confirmed_flush_lsn > $1::pg_lsn FROM pg_replication_slots WHERE slot_name = $2`, reached.String(), name) == "true"
		}, pgtest.Timeout, time.Millisecond)
		stop()
		require.NoError(t, <-ended)
		require.NoError(t, source.Close(ctx))
		require.NoError(t, own.Stop(long, pgcluster.Immediate))
		require.NoError(t, own.StartServer(long))
		source = pgtest.Conn(t, b.SourceDSN)
	}
	require.Contains(t, (<-watched.Tripped()).Detail, "public.a")
	select {
	case again := <-watched.Tripped():
		require.Fail(t, "told twice", again.Detail)
	default:
	}
}
