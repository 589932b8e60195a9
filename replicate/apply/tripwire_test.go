package apply_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
)

func TestATripwireNamesOtherWritersAndConfirmsEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	cfg := w.config()
	var seen alarms
	cfg.OnAlarm = seen.add
	cfg.Stream.IdleInterval, cfg.Stream.StatusInterval = time.Millisecond, 10*time.Millisecond
	wire, err := apply.NewTripwire(cfg)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- wire.Run(ctx, cfg.Start, cfg.Start) }()

	w.do(`BEGIN; SELECT pg_logical_emit_message(true, 'crossfade.test', 'ours'); UPDATE people SET name = 'ours' WHERE id = 1; COMMIT`)
	w.do(`UPDATE people SET name = 'stranger' WHERE id = 2`)
	end, err := pg.ParseLSN(pgtest.Value(t, w.src, `SELECT pg_current_wal_lsn()`))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		confirmed, err := pg.ParseLSN(pgtest.Value(t, w.src, `SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1`, w.slot))
		require.NoError(t, err)
		return confirmed >= end
	}, pgtest.Timeout, 5*time.Millisecond)
	require.Len(t, seen.all(), 1)
	require.Equal(t, "public.people", seen.all()[0].Relation)
	stop()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.NotEqual(t, "stranger", pgtest.Value(t, w.dst, `SELECT name FROM people WHERE id = 2`), "nothing is applied")
}

// TestATripwireComparesWithTheMarker: a source that crashed remembers an older position of
// its slot than it was told, and sends again what was applied before the marker.
func TestATripwireComparesWithTheMarker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	cfg := w.config() // which starts where the slot was made
	var seen alarms
	cfg.OnAlarm = seen.add
	for range 20 {
		w.do(`UPDATE people SET name = 'long ago' WHERE id = 1`)
	}
	w.emit("marker")
	marker, err := pg.ParseLSN(pgtest.Value(t, w.src, `SELECT pg_current_wal_lsn()`))
	require.NoError(t, err)
	w.do(`UPDATE people SET name = 'stranger' WHERE id = 2`)
	xid := pgtest.Value(t, w.src, `SELECT xmin FROM people WHERE id = 2`)
	wire, err := apply.NewTripwire(cfg)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- wire.Run(ctx, cfg.Start, marker) }()
	require.Eventually(t, func() bool { return len(seen.all()) > 0 }, pgtest.Timeout, time.Millisecond)
	require.Contains(t, pgtest.Value(t, w.src, `SELECT a.query FROM pg_stat_activity a JOIN pg_replication_slots s ON s.active_pid = a.pid WHERE s.slot_name = $1`, w.slot),
		marker.String(), "it does not ask for what was before")
	stop()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Len(t, seen.all(), 1, "of those before the marker none")
	require.Equal(t, xid, itoa(seen.all()[0].XID))
}
