package apply_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
)

func inParts(c *apply.Config) { c.Stream.PartBytes = 2000; c.Stream.MaxBytes = 20000 }

const manyRows = `INSERT INTO people SELECT i, 'n', 'mail' || i, repeat(md5(i::text), 100) FROM generate_series(1000, 3000) i`

func TestALargeTransactionIsAppliedWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	r := w.follow(inParts)
	w.do(`BEGIN; ` + manyRows + `; UPDATE people SET name = 'x' WHERE id % 3 = 0; UPDATE people SET mail = 'tmp' WHERE id = 1;
		UPDATE people SET mail = 'm1' WHERE id = 2; UPDATE people SET mail = 'm2' WHERE id = 1; DELETE FROM people WHERE id % 7 = 0;
		SELECT pg_logical_emit_message(true, 'crossfade.marker', 'within'); COMMIT`)
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	_, err := r.WaitMarker(ctx, "within")
	require.NoError(t, err)
	w.same("people")
	require.LessOrEqual(t, r.Status().Batches, uint64(2), "at most the position of a quiet source besides")
	require.Equal(t, uint64(1), r.Status().Transactions)
}

func TestALargeTransactionIsAppliedDespiteCutsOnBothSides(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	r := w.follow(inParts)
	ctx, cancel := context.WithCancel(context.Background())
	onTarget := w.killer(ctx, "crossfade apply", w.target, 173*time.Millisecond)
	onSource := w.killer(ctx, "crossfade stream", w.source, 101*time.Millisecond)
	w.do(manyRows)
	w.do(`UPDATE people SET name = 'large again'`)
	w.do(`UPDATE people SET name = 'small' WHERE id = 1`)
	stop := time.AfterFunc(3*time.Second, cancel)
	defer stop.Stop()
	// A follower whose one side is cut waits a little, and has no other side then.
	require.NotZero(t, <-onTarget+<-onSource)
	w.drain(r)
	w.same("people")
}

func TestABadRowInALargeTransactionIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	pgtest.Exec(t, w.dst, `INSERT INTO people VALUES (2500, 'in the way', '', '')`)
	before := rows(t, w.dst, "people")
	r := w.follow(inParts)
	w.do(manyRows)
	var row *apply.RowError
	require.ErrorAs(t, r.result(), &row)
	require.Equal(t, "id=2500", row.Key)
	require.Equal(t, before, rows(t, w.dst, "people"))
	require.Less(t, w.progress().EndLSN, row.LSN)
}

func TestTruncateMakesItsWay(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*apply.Config){"batch": func(*apply.Config) {}, "parts": inParts} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, people, fillPeople)
			holder := pgtest.Conn(t, w.target)
			pgtest.Exec(t, holder, `BEGIN; LOCK TABLE people IN SHARE UPDATE EXCLUSIVE MODE`)
			var calls atomic.Int32
			r := w.follow(change, func(c *apply.Config) {
				c.LockTimeout = 20 * time.Millisecond
				c.BeforeTruncate = func(ctx context.Context) error {
					if calls.Add(1) < 4 {
						return nil
					}
					_, err := holder.Exec(ctx, `COMMIT`)
					return err
				}
			})
			w.do(`BEGIN; ` + manyRows + `; TRUNCATE people; INSERT INTO people VALUES (1, 'after', 'after', ''); COMMIT`)
			w.drain(r)
			w.same("people")
			require.GreaterOrEqual(t, calls.Load(), int32(4))
		})
	}
}

func TestAnIdleSourceMovesTheSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	w.do(`CREATE TABLE unpublished (v text)`)
	w.follow(func(c *apply.Config) { c.Stream.IdleInterval = time.Millisecond })
	w.do(`INSERT INTO unpublished SELECT repeat('x', 1000) FROM generate_series(1, 100)`)
	end, err := pg.ParseLSN(pgtest.Value(t, w.src, `SELECT pg_current_wal_lsn()`))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		confirmed, err := pg.ParseLSN(pgtest.Value(t, w.src, `SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1`, w.slot))
		require.NoError(t, err)
		return confirmed >= end
	}, pgtest.Timeout, 5*time.Millisecond)
	require.GreaterOrEqual(t, w.progress().EndLSN, end)
}

func TestBatchesMergeUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	for range 200 {
		w.do(`UPDATE people SET name = name || '.' WHERE id < 5`)
	}
	r := w.follow(func(c *apply.Config) { c.BatchAge = time.Minute })
	w.drain(r)
	w.same("people")
	s := r.Status()
	require.GreaterOrEqual(t, s.Transactions, uint64(200))
	require.Less(t, s.Batches, s.Transactions*3/4, "%+v", s)
	require.Less(t, s.Statements, s.Changes/4)
}
