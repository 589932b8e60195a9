package apply_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
)

// alarms gathers what the tripwire reports.
type alarms struct {
	mu   sync.Mutex
	list []apply.Alarm
}

func (a *alarms) add(x apply.Alarm) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, x)
}

func (a *alarms) all() []apply.Alarm {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]apply.Alarm(nil), a.list...)
}

func TestNothingIsAppliedAfterTheMarkerUntilContinue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	var seen alarms
	r := w.follow(func(c *apply.Config) { c.OnAlarm = seen.add; c.Heartbeat = 20 * time.Millisecond })
	w.do(`UPDATE people SET name = 'before'`)
	at := w.marker(r)
	w.same("people")
	require.Equal(t, at, w.progress().EndLSN)
	require.True(t, r.Status().Tripped)
	require.Equal(t, at, r.Status().DurableLSN)
	frozen := rows(t, w.dst, "people")

	w.do(`BEGIN; UPDATE people SET name = 'after' WHERE id = 1`)
	xid := pgtest.Value(t, w.src, `SELECT pg_current_xact_id()::xid`)
	w.do(`COMMIT`)
	w.do(`BEGIN; SELECT pg_logical_emit_message(true, 'crossfade.batch', ''); UPDATE people SET name = 'ours' WHERE id = 2; COMMIT`)
	w.do(`DELETE FROM people WHERE id = 3`)
	require.Eventually(t, func() bool { return len(seen.all()) == 2 }, pgtest.Timeout, 2*time.Millisecond)
	first := seen.all()[0]
	require.Equal(t, "public.people", first.Relation)
	require.Equal(t, xid, itoa(first.XID))
	require.Greater(t, first.LSN, at)
	require.Equal(t, frozen, rows(t, w.dst, "people"))
	require.Equal(t, at, w.progress().EndLSN)

	r.Continue()
	w.drain(r)
	w.same("people")
	require.Equal(t, "after ours", pgtest.Value(t, w.dst, `SELECT string_agg(name, ' ' ORDER BY id) FROM people WHERE id IN (1, 2, 3)`))
	require.Len(t, seen.all(), 2, "an alarm is of a tripped wire")
}

func TestAnAbortedMarkerStopsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	r := w.follow()
	r.Expect("given up")
	r.Continue()
	w.emit("given up")
	w.do(`UPDATE people SET name = 'on'`)
	w.drain(r)
	w.same("people")
}

func TestWaitingLateForAMarkerTripsAndReports(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	var seen alarms
	r := w.follow(func(c *apply.Config) { c.OnAlarm = seen.add })
	w.emit("early")
	w.do(`UPDATE people SET name = 'slipped through' WHERE id = 4`)
	require.Eventually(t, func() bool {
		return pgtest.Value(t, w.dst, `SELECT name FROM people WHERE id = 4`) == "slipped through"
	}, pgtest.Timeout, 2*time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	_, err := r.WaitMarker(ctx, "early")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(seen.all()) == 1 }, pgtest.Timeout, 2*time.Millisecond)
	require.True(t, r.Status().Tripped)
}

func TestAMarkerIsWaitedForWithABound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	r := w.follow()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	_, err := r.WaitMarker(ctx, "not written")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestAMarkerRowOfAnOldSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	w.do(`CREATE SCHEMA crossfade; CREATE TABLE crossfade.marker (nonce text PRIMARY KEY); ALTER PUBLICATION crossfade ADD TABLE crossfade.marker`)
	r := w.follow()
	r.Expect("row")
	w.do(`UPDATE people SET name = 'before'`)
	w.do(`INSERT INTO crossfade.marker VALUES ('row')`)
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	_, err := r.WaitMarker(ctx, "row")
	require.NoError(t, err)
	w.same("people")
}

func TestHeartbeatTellsTheLag(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	r := w.follow(func(c *apply.Config) { c.Heartbeat = 20 * time.Millisecond; c.DurableInterval = 20 * time.Millisecond })
	require.Eventually(t, func() bool { return r.Status().LagMS >= 0 }, pgtest.Timeout, 2*time.Millisecond)
	s := r.Status()
	require.Less(t, s.LagMS, int64(10_000))
	require.True(t, s.SourceConnected && s.TargetConnected)
	require.Greater(t, s.AppliedLSN, w.start)
	require.NotZero(t, s.SourceLSN)

	w.marker(r)
	stuck := r.Status().AppliedLSN
	require.Eventually(t, func() bool { return r.Status().LagMS > 100 }, pgtest.Timeout, 2*time.Millisecond, "held back")
	require.Equal(t, stuck, r.Status().AppliedLSN)
	r.Continue()
	require.Eventually(t, func() bool { return r.Status().LagMS < 100 }, pgtest.Timeout, 2*time.Millisecond)
}

func TestTheSlotNeverHearsOfMoreThanIsDurable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	r := w.follow(func(c *apply.Config) {
		c.DurableInterval = 300 * time.Millisecond
		c.Stream.StatusInterval = 5 * time.Millisecond
	})
	watch := pgtest.Conn(t, w.source)
	for i := range 100 {
		pgtest.Exec(t, w.src, `UPDATE people SET note = $1 WHERE id = 1`, itoa(uint32(i)))
		confirmed, err := pg.ParseLSN(pgtest.Value(t, watch, `SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1`, w.slot))
		require.NoError(t, err)
		durable := r.Status().DurableLSN
		if durable != 0 {
			require.LessOrEqual(t, confirmed, durable)
		}
		require.LessOrEqual(t, durable, r.Status().AppliedLSN)
	}
	applied := w.marker(r)
	require.Eventually(t, func() bool {
		return pgtest.Value(t, watch, `SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1`, w.slot) == applied.String()
	}, pgtest.Timeout, 5*time.Millisecond)
}

func TestAHeartbeatRowOfAnOldSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	w.do(`CREATE SCHEMA crossfade; CREATE TABLE crossfade.marker (nonce text PRIMARY KEY); ALTER PUBLICATION crossfade ADD TABLE crossfade.marker`)
	r := w.follow() // which writes no heartbeats itself
	require.EqualValues(t, -1, r.Status().LagMS)
	r.Expect("crossfade.hb 5")
	for range 2 { // an INSERT, then an UPDATE
		ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
		require.NoError(t, r.Beat(ctx, w.src, 13))
		cancel()
	}
	require.Equal(t, "1", pgtest.Value(t, w.src, `SELECT count(*) FROM crossfade.marker`))
	require.Eventually(t, func() bool { return r.Status().LagMS >= 0 }, pgtest.Timeout, 2*time.Millisecond)
	w.do(`UPDATE crossfade.marker SET nonce = 'crossfade.hb 5'; UPDATE people SET name = 'after'`)
	require.Eventually(t, func() bool { return r.Status().LagMS > 1e9 }, pgtest.Timeout, 2*time.Millisecond, "of 1970")
	w.drain(r)
	w.same("people")
}
