package apply_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
	"crossfade/replicate/progress"
	"crossfade/replicate/stream"
)

const slotName = "crossfade_test"

// world is a source and a target with the same tables, and a slot.
type world struct {
	t              *testing.T
	source, target pg.DSN
	src, dst       *pgx.Conn
	slot           string
	start          pg.LSN
	nonces         int
}

// newWorld runs ddl on both sides, and then fill, which stands for the copy.
func newWorld(t *testing.T, ddl, fill string) *world {
	t.Helper()
	w := &world{
		t:      t,
		source: pgtest.Database(t, pgtest.Shared(t, pgtest.Source)),
		target: pgtest.Database(t, pgtest.Shared(t, pgtest.Target)),
	}
	w.src, w.dst = pgtest.Conn(t, w.source), pgtest.Conn(t, w.target)
	w.setUp(ddl, fill)
	return w
}

func (w *world) setUp(ddl, fill string) {
	w.t.Helper()
	pgtest.Exec(w.t, w.dst, journal.TargetDDL)
	for _, c := range []*pgx.Conn{w.src, w.dst} {
		pgtest.Exec(w.t, c, ddl)
		pgtest.Exec(w.t, c, fill)
	}
	w.publish()
}

// publish makes a publication of all tables, and the slot.
func (w *world) publish() {
	w.t.Helper()
	pgtest.Exec(w.t, w.src, `DO $$
		DECLARE list text;
		BEGIN
			SELECT string_agg(format('%I.%I', n.nspname, c.relname), ', ') INTO list FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'crossfade');
			EXECUTE 'CREATE PUBLICATION crossfade FOR TABLE ' || list;
		END $$`)
	w.slot = slotName + "_" + w.source.Database()
	text := pgtest.Value(w.t, w.src, `SELECT lsn FROM pg_create_logical_replication_slot($1, 'pgoutput')`, w.slot)
	var err error
	w.start, err = pg.ParseLSN(text)
	require.NoError(w.t, err)
}

func (w *world) config() apply.Config {
	return apply.Config{
		Source: w.source, Target: w.target, Slot: w.slot, Publication: "crossfade", Start: w.start,
		Heartbeat: -1, Retry: retry.Policy{Initial: 10 * time.Millisecond, Max: 200 * time.Millisecond},
		Logger: zerolog.New(zerolog.NewTestWriter(w.t)),
		Stream: stream.Config{StatusInterval: 50 * time.Millisecond},
	}
}

// running is a Follower at work.
type running struct {
	*apply.Follower
	t      *testing.T
	cancel context.CancelFunc
	done   chan error
}

// follow runs a Follower until the end of the test, or stop.
func (w *world) follow(change ...func(*apply.Config)) *running {
	w.t.Helper()
	cfg := w.config()
	for _, f := range change {
		f(&cfg)
	}
	f, err := apply.NewFollower(cfg)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Follower: f, t: w.t, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- f.Run(ctx) }()
	w.t.Cleanup(func() { r.stop() })
	return r
}

// stop ends the Follower and returns what Run returned, nil for the context.
func (r *running) stop() error {
	r.cancel()
	return r.result()
}

// result waits for Run to end.
func (r *running) result() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	case <-time.After(pgtest.Timeout):
		r.t.Fatal("the follower did not end")
		return nil
	}
}

// do runs statements on the source, as one transaction unless they say otherwise.
func (w *world) do(sql string) {
	w.t.Helper()
	pgtest.Exec(w.t, w.src, sql)
}

// drain waits until everything committed on the source is applied, and goes on.
func (w *world) drain(r *running) {
	w.t.Helper()
	w.marker(r)
	r.Continue()
}

// marker waits for a marker and leaves the wire tripped.
func (w *world) marker(r *running) pg.LSN {
	w.t.Helper()
	w.nonces++
	nonce := fmt.Sprintf("nonce %d", w.nonces)
	r.Expect(nonce)
	w.emit(nonce)
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	lsn, err := r.WaitMarker(ctx, nonce)
	require.NoError(w.t, err)
	return lsn
}

func (w *world) emit(nonce string) {
	w.t.Helper()
	pgtest.Exec(w.t, w.src, `SELECT pg_logical_emit_message(true, 'crossfade.marker', $1::text)`, nonce)
}

// rows gives a table's content as text, in a fixed order.
func rows(t *testing.T, c *pgx.Conn, table string) string {
	t.Helper()
	return pgtest.Value(t, c, `SELECT string_agg(r, E'\n' ORDER BY r COLLATE "C") FROM (SELECT x::text AS r FROM ONLY `+table+` x) s`)
}

// same requires that tables hold the same rows on both sides.
func (w *world) same(tables ...string) {
	w.t.Helper()
	for _, table := range tables {
		require.Equal(w.t, rows(w.t, w.src, table), rows(w.t, w.dst, table), "rows of %s", table)
	}
}

func (w *world) progress() progress.Row {
	w.t.Helper()
	row, err := progress.Read(context.Background(), w.dst, 0)
	require.NoError(w.t, err)
	return row
}

// check is the usual test: statements on the source come through as they are.
func check(t *testing.T, ddl, fill, changes string, tables ...string) *running {
	t.Helper()
	t.Parallel()
	w := newWorld(t, ddl, fill)
	r := w.follow()
	before := rows(t, w.src, tables[0])
	w.do(changes)
	require.NotEqual(t, before, rows(t, w.src, tables[0]), "the changes change nothing")
	w.drain(r)
	w.same(tables...)
	return r
}
