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

func TestAMissingRowStopsWithItsName(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"update": `UPDATE people SET name = 'new' WHERE id = 7`,
		"delete": `DELETE FROM people WHERE id = 7`,
		"insert": `INSERT INTO people VALUES (70, 'seven', 'm70', '')`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, people, fillPeople)
			pgtest.Exec(t, w.dst, `DELETE FROM people WHERE id = 7; INSERT INTO people VALUES (70, 'in the way', 'x', '')`)
			before := rows(t, w.dst, "people")
			r := w.follow()
			w.do(`BEGIN; UPDATE people SET name = 'same transaction' WHERE id = 1; ` + change + `; COMMIT`)
			err := r.result()
			var row *apply.RowError
			require.ErrorAs(t, err, &row)
			require.Equal(t, "public.people", row.Relation)
			require.Equal(t, name, row.Change)
			if name == "insert" {
				require.Equal(t, "id=70", row.Key)
				require.Equal(t, pg.CodeUniqueViolation, pg.Code(err))
			} else {
				require.Equal(t, "id=7", row.Key)
			}
			require.Equal(t, before, rows(t, w.dst, "people"), "nothing of the transaction")
			require.Less(t, w.progress().EndLSN, row.LSN)
			_, err = r.WaitMarker(context.Background(), "never")
			require.ErrorAs(t, err, &row, "who waits is told")
		})
	}
}

func TestTransactionsBeforeABadOneAreApplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	pgtest.Exec(t, w.dst, `DELETE FROM people WHERE id = 7`)
	w.do(`UPDATE people SET name = 'good' WHERE id = 1`)
	w.do(`UPDATE people SET name = 'bad' WHERE id = 7; UPDATE people SET name = 'bad too' WHERE id = 2`)
	err := w.follow(func(c *apply.Config) { c.BatchAge = time.Minute }).result()
	var row *apply.RowError
	require.ErrorAs(t, err, &row)
	require.ErrorContains(t, err, "apply update of row (id=7) in public.people")
	require.Equal(t, "good n2", pgtest.Value(t, w.dst, `SELECT string_agg(name, ' ' ORDER BY id) FROM people WHERE id < 3`))
}

func TestDriftStops(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ target, says string }{
		"no table":       {`DROP TABLE people`, "does not exist on the target"},
		"no column":      {`ALTER TABLE people DROP note`, "column note does not exist on the target"},
		"another type":   {`ALTER TABLE people ALTER note TYPE varchar`, "the type of column note is pg_catalog.varchar"},
		"another length": {`ALTER TABLE people ADD x numeric(10,2)`, "the length or precision of column x differs"},
		"one more":       {`ALTER TABLE people ADD x numeric(8,2), ADD more int`, "column more exists on the target only"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, people, fillPeople)
			w.do(`ALTER TABLE people ADD x numeric(8,2)`)
			if name != "another length" && name != "one more" {
				c.target = `ALTER TABLE people ADD x numeric(8,2); ` + c.target
			}
			pgtest.Exec(t, w.dst, c.target)
			r := w.follow()
			w.do(`UPDATE people SET name = 'x' WHERE id = 1`)
			err := r.result()
			var drift *apply.DriftError
			require.ErrorAs(t, err, &drift)
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "public.people")
		})
	}
}

// TestTransactionsBeforeADriftAreApplied, so that a target that is made to fit fits all that is left.
func TestTransactionsBeforeADriftAreApplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	w.do(`UPDATE people SET name = 'before' WHERE id = 1`)
	w.do(`ALTER TABLE people ADD late text; UPDATE people SET name = 'after', late = 'x' WHERE id = 2`)
	var drift *apply.DriftError
	require.ErrorAs(t, w.follow(func(c *apply.Config) { c.BatchAge = time.Minute }).result(), &drift)
	require.Equal(t, "before n2", pgtest.Value(t, w.dst, `SELECT string_agg(name, ' ' ORDER BY id) FROM people WHERE id < 3`))
	pgtest.Exec(t, w.dst, `ALTER TABLE people ADD late text`)
	w.drain(w.follow())
	w.same("people")

	w = newWorld(t, people+`; CREATE TABLE other (id int PRIMARY KEY)`, fillPeople)
	pgtest.Exec(t, w.dst, `DROP TABLE other`)
	w.do(`UPDATE people SET name = 'before' WHERE id = 1`)
	w.do(`UPDATE people SET name = 'with it' WHERE id = 2; INSERT INTO other VALUES (1)`)
	require.ErrorAs(t, w.follow(func(c *apply.Config) { c.BatchAge = time.Minute }).result(), &drift)
	require.Equal(t, "before n2", pgtest.Value(t, w.dst, `SELECT string_agg(name, ' ' ORDER BY id) FROM people WHERE id < 3`))
	pgtest.Exec(t, w.dst, `CREATE TABLE other (id int PRIMARY KEY)`)
	w.drain(w.follow())
	w.same("people", "other")
}

func TestTwoFollowersTheEarlierIsFencedOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	first := w.follow()
	w.do(`UPDATE people SET name = 'one' WHERE id = 1`)
	w.drain(first)
	w.do(`SELECT pg_copy_logical_replication_slot('` + w.slot + `', '` + w.slot + `_two')`)
	second := w.follow(func(c *apply.Config) { c.Slot += "_two" })
	require.Eventually(t, func() bool { return w.progress().Owner == 2 }, pgtest.Timeout, 5*time.Millisecond)
	w.do(`UPDATE people SET name = name || '!'; INSERT INTO people VALUES (900, 'x', 'x', 'x')`)
	require.ErrorIs(t, first.result(), progress.ErrFenced)
	w.drain(second)
	w.same("people")
}

func TestClosedLaneEndsTheFollower(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	r := w.follow()
	at := w.marker(r)
	end, err := progress.Close(context.Background(), w.dst, 0, at)
	require.NoError(t, err)
	require.Equal(t, at, end)
	before := rows(t, w.dst, "people")
	r.Continue()
	w.do(`UPDATE people SET name = 'late'`)
	require.ErrorIs(t, r.result(), progress.ErrClosed)
	require.Equal(t, before, rows(t, w.dst, "people"))
	require.ErrorIs(t, w.follow().result(), progress.ErrClosed)
}

// killer ends the follower's server processes on the target again and again.
func (w *world) killer(ctx context.Context, name string, conn pg.DSN, every time.Duration) chan int {
	c := pgtest.Conn(w.t, conn)
	done := make(chan int, 1)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		kills := 0
		for {
			select {
			case <-ctx.Done():
				done <- kills
				return
			case <-tick.C:
			}
			var n int
			_ = c.QueryRow(context.Background(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1`, name).Scan(&n)
			kills += n
		}
	}()
	return done
}

func TestServersKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `CREATE TABLE c (id int PRIMARY KEY, v bigint); CREATE TABLE log (n bigint)`, `INSERT INTO c SELECT i, 0 FROM generate_series(1, 10) i`)
	r := w.follow(func(c *apply.Config) { c.BatchAge = time.Nanosecond })
	ctx, cancel := context.WithCancel(context.Background())
	onTarget := w.killer(ctx, "crossfade apply", w.target, 37*time.Millisecond)
	onSource := w.killer(ctx, "crossfade stream", w.source, 171*time.Millisecond)
	for i := range 600 {
		pgtest.Exec(t, w.src, `WITH l AS (INSERT INTO log VALUES ($1)) UPDATE c SET v = v + 1 WHERE id = $1 % 10 + 1`, i)
	}
	cancel()
	require.NotZero(t, <-onTarget)
	<-onSource
	w.drain(r)
	w.same("c", "log")
	require.Equal(t, "600", pgtest.Value(t, w.dst, `SELECT count(DISTINCT n) FROM log`))
}

func TestRestartGoesOnFromProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	for range 3 {
		r := w.follow()
		w.do(`UPDATE people SET name = name || '+'; INSERT INTO people SELECT max(id) + 1, 'n', 'x' || max(id), '' FROM people`)
		w.drain(r)
		w.do(`UPDATE people SET note = note || '.'`)
		require.NoError(t, r.stop())
		w.do(`DELETE FROM people WHERE id = (SELECT min(id) FROM people)`)
	}
	w.drain(w.follow())
	w.same("people")
	require.Equal(t, int64(4), w.progress().Owner)
}

// TestWhatTheTargetRefusesIsNoChangeOfSomebodyElse tells a row that contradicts the stream from a
// target that refuses it.
func TestWhatTheTargetRefusesIsNoChangeOfSomebodyElse(t *testing.T) {
	t.Parallel()
	const others = "the target has changed otherwise than by us"
	w := newWorld(t, people, fillPeople)
	pgtest.Exec(t, w.dst, `ALTER TABLE people ADD CONSTRAINT short CHECK (length(name) < 10) NOT VALID`)
	r := w.follow()
	w.do(`UPDATE people SET name = 'a name that is too long' WHERE id = 1`)
	err := r.result()
	require.ErrorAs(t, err, new(*apply.RowError))
	require.NotContains(t, err.Error(), others)
	require.ErrorContains(t, err, "remove on the target what it names and start again")

	w = newWorld(t, people, fillPeople)
	pgtest.Exec(t, w.dst, `DELETE FROM people WHERE id = 7`)
	r = w.follow()
	w.do(`UPDATE people SET name = 'new' WHERE id = 7`)
	require.ErrorContains(t, r.result(), others)
}
