package apply_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
	"crossfade/replicate/progress"
)

// decide writes what a decision writes that opens the source again: a marker, in a transaction of its
// own. It returns a position before it.
func (w *world) decide(nonce string) pg.LSN {
	w.t.Helper()
	at, err := pg.ParseLSN(pgtest.Value(w.t, w.src, `SELECT pg_current_wal_insert_lsn()`))
	require.NoError(w.t, err)
	w.emit(nonce)
	return at
}

// reopen opens the lane again.
func (w *world) reopen(since string, at pg.LSN) {
	w.t.Helper()
	require.NoError(w.t, progress.Reopen(w.t.Context(), w.dst, 0, w.start, since, at))
}

// What was written to the source while it was closed came from the target: a lane that is opened again
// leaves it out, and applies what follows the decision, also if it is killed in between.
func TestALaneThatIsOpenedAgainBeginsAtTheDecision(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	var seen alarms
	marked := func(c *apply.Config) { c.Writes.Marked, c.OnAlarm = true, seen.add }
	r := w.follow(marked)
	w.do(`UPDATE people SET name = 'before' WHERE id = 1`)
	closedAt := w.marker(r)
	_, err := progress.Close(t.Context(), w.dst, 0, closedAt)
	require.NoError(t, err)
	require.NoError(t, r.stop())

	w.do(`BEGIN; SELECT pg_logical_emit_message(true, 'crossfade.batch', ''); UPDATE people SET name = 'ours' WHERE id = 2; COMMIT`)
	at := w.decide("open")
	w.do(`UPDATE people SET name = 'after' WHERE id = 3`)
	w.reopen("open", at)
	r = w.follow(marked)
	w.drain(r)
	require.NotEqual(t, "ours", pgtest.Value(t, w.dst, `SELECT name FROM people WHERE id = 2`))
	require.Equal(t, "after", pgtest.Value(t, w.dst, `SELECT name FROM people WHERE id = 3`))
	require.Empty(t, seen.all())
	require.Empty(t, w.progress().Since)
	require.NoError(t, r.stop())
	r = w.follow(marked) // and goes on from there
	w.do(`UPDATE people SET name = 'later' WHERE id = 3`)
	w.drain(r)
	require.Equal(t, "later", pgtest.Value(t, w.dst, `SELECT name FROM people WHERE id = 3`))
}

// A slot that was read by someone else beyond the decision, or made again, does not hold what has to
// be applied. The lane ends instead of leaving everything out for ever.
func TestALaneWhoseDecisionIsGoneFromTheStreamEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	at := w.decide("open")
	w.do(`UPDATE people SET name = 'lost' WHERE id = 1`)
	pgtest.Exec(t, w.src, `SELECT pg_replication_slot_advance('`+w.slot+`', pg_current_wal_lsn())`)
	w.reopen("open", at)
	r := w.follow()
	w.do(`UPDATE people SET name = 'next' WHERE id = 1`)
	var missed *apply.MissedError
	require.ErrorAs(t, r.result(), &missed)
	require.Equal(t, at, missed.Since)
	require.ErrorContains(t, missed, "what was written between is lost")
}

// Someone who writes to a side that is closed is an alarm, also where nobody watched at the time.
func TestAStrangerBeforeTheDecisionIsAnAlarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	var seen alarms
	w.do(`UPDATE people SET name = 'stranger' WHERE id = 1`)
	w.reopen("open", w.decide("open"))
	r := w.follow(func(c *apply.Config) { c.OnAlarm = seen.add })
	w.drain(r)
	require.Len(t, seen.all(), 1)
	require.NotEqual(t, "stranger", pgtest.Value(t, w.dst, `SELECT name FROM people WHERE id = 1`))
}

// A decision ends the watching of the side that it opens, and nothing of it is confirmed: the slot
// still has what is to be applied.
func TestATripwireEndsAtADecision(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	cfg := w.config()
	var seen alarms
	cfg.OnAlarm = seen.add
	wire, err := apply.NewTripwire(cfg)
	require.NoError(t, err)
	ctx, stop := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- wire.Run(ctx, cfg.Start, 0) }()
	w.do(`BEGIN; SELECT pg_logical_emit_message(true, 'crossfade.batch', ''); UPDATE people SET name = 'ours' WHERE id = 2; COMMIT`)
	at := w.decide("open")
	w.do(`UPDATE people SET name = 'after' WHERE id = 3`)
	var opened *apply.OpenedError
	require.ErrorAs(t, <-ended, &opened)
	require.Equal(t, "open", opened.Nonce)
	require.GreaterOrEqual(t, opened.LSN, at)
	w.reopen("open", at)
	r := w.follow()
	w.drain(r)
	require.Equal(t, "after", pgtest.Value(t, w.dst, `SELECT name FROM people WHERE id = 3`))
	require.Empty(t, seen.all())
}

// Who reads the changes of the written side tells ours from those of others.
func TestMarkedTransactionsAreOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	back := w.slot + "_back"
	var seen alarms
	cfg := w.config()
	// The target of this follower is another database of the source's cluster, whose log can be decoded.
	cfg.Target = pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	dst := pgtest.Conn(t, cfg.Target)
	pgtest.Exec(t, dst, `CREATE SCHEMA crossfade; CREATE TABLE crossfade.progress (lane integer PRIMARY KEY, owner bigint NOT NULL, end_lsn pg_lsn NOT NULL, commit_ts timestamptz,
		open boolean NOT NULL DEFAULT true, since text NOT NULL DEFAULT '', since_lsn pg_lsn NOT NULL DEFAULT '0/0')`)
	pgtest.Exec(t, dst, people)
	pgtest.Exec(t, dst, fillPeople)
	pgtest.Exec(t, dst, `CREATE PUBLICATION crossfade FOR TABLE people`)
	start, err := pg.ParseLSN(pgtest.Value(t, dst, `SELECT lsn FROM pg_create_logical_replication_slot($1, 'pgoutput')`, back))
	require.NoError(t, err)
	cfg.Writes.Marked = true
	f, err := apply.NewFollower(cfg)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ran := make(chan error, 2)
	go func() { ran <- f.Run(ctx) }()

	watch := w.config()
	watch.Source, watch.Slot, watch.OnAlarm = cfg.Target, back, seen.add
	wire, err := apply.NewTripwire(watch)
	require.NoError(t, err)
	go func() { ran <- wire.Run(ctx, start, 0) }()
	w.do(`UPDATE people SET name = 'followed' WHERE id = 1`)
	require.Eventually(t, func() bool {
		return pgtest.Value(t, dst, `SELECT name FROM people WHERE id = 1`) == "followed"
	}, pgtest.Timeout, 5*time.Millisecond)
	pgtest.Exec(t, dst, `UPDATE people SET name = 'stranger' WHERE id = 2`)
	require.Eventually(t, func() bool { return len(seen.all()) > 0 }, pgtest.Timeout, 5*time.Millisecond)
	require.Len(t, seen.all(), 1, "what was followed is no alarm")
	stop()
	<-ran
	<-ran
}
