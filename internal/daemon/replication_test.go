package daemon

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/internal/journal"
	"crossfade/internal/pg"
	"crossfade/internal/pgcluster/pgtest"
	"crossfade/replicate/apply"
	"crossfade/replicate/slot"
)

func TestOnlyTheAppliedMarkerEndsTheDrain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pgtest.Exec(t, b.target, `DELETE FROM crossfade.progress`)
	name := "s_" + b.sourceDSN.Database()
	s, err := slot.Create(ctx, slot.Config{Name: name, Connect: func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, b.sourceDSN) },
		Replication: func(ctx context.Context) (*pgconn.PgConn, error) { return pg.ConnectReplication(ctx, b.sourceDSN) }})
	require.NoError(t, err)
	s.Release()
	f := newFollowing()
	ended := make(chan error, 1)
	go func() {
		ended <- f.run(ctx, apply.Config{Source: b.sourceDSN, Target: b.targetDSN, TargetOptions: []pg.Option{pg.WithKey("k")},
			Slot: name, Publication: journal.Publication, Start: s.ConsistentPoint, Logger: zerolog.Nop()})
	}()
	require.Eventually(t, func() bool { st, err := f.status(); return err == nil && st.SourceConnected }, pgtest.Timeout, time.Millisecond)

	// The row that comes before the marker cannot be applied while its table is locked.
	blocker := pgtest.Conn(t, b.targetDSN)
	pgtest.Exec(t, blocker, "BEGIN; LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, f.expect(3, "nonce"))
	pgtest.Exec(t, b.source, "INSERT INTO public.a VALUES (1, 'before the marker')")
	pgtest.Exec(t, b.source, "SELECT pg_logical_emit_message(true, 'crossfade.marker', 'nonce')")
	short, stop := context.WithTimeout(ctx, 500*time.Millisecond)
	require.Error(t, f.WaitMarker(short, cutover.Marker{Epoch: 3, Nonce: "nonce"}), "the marker is not applied yet")
	stop()
	require.Zero(t, f.markerEnd())
	pgtest.Exec(t, blocker, "COMMIT")
	long, stop := context.WithTimeout(ctx, pgtest.Timeout)
	defer stop()
	require.NoError(t, f.WaitMarker(long, cutover.Marker{Epoch: 3, Nonce: "nonce"}))
	require.NotZero(t, f.markerEnd())
	require.Equal(t, "before the marker", pgtest.Value(t, b.target, "SELECT v FROM public.a"))

	// Behind the marker nothing is applied, and a stranger is an alarm of the epoch.
	pgtest.Exec(t, b.source, "INSERT INTO public.a VALUES (2, 'behind it')")
	trip := <-f.Tripped()
	require.EqualValues(t, 3, trip.Epoch)
	require.Contains(t, trip.Detail, "public.a")
	require.Equal(t, "1", pgtest.Value(t, b.target, "SELECT count(*) FROM public.a"))
	require.NoError(t, f.Continue(ctx, 3)) // after an abort nothing is missing
	require.Eventually(t, func() bool { return pgtest.Value(t, b.target, "SELECT count(*) FROM public.a") == "2" }, pgtest.Timeout, time.Millisecond)
	// Whoever reads on waits until the applier's walsender has gone.
	_, err = restFrom(ctx, b.source, name)
	require.ErrorContains(t, err, "still streams")
	reached := f.markerEnd()
	cancel()
	require.NoError(t, <-ended)
	require.Eventually(t, func() bool { from, err := restFrom(t.Context(), b.source, name); return err == nil && from >= reached }, pgtest.Timeout, time.Millisecond)
}
