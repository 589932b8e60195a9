package slot_test

import (
	"context"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/slot"
	"crossfade/replicate/snapshot"
)

func config(dsn pg.DSN) slot.Config {
	return slot.Config{
		Name:        "crossfade_" + dsn.Database(),
		Replication: func(ctx context.Context) (*pgconn.PgConn, error) { return pg.ConnectReplication(ctx, dsn) },
		Connect:     func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, dsn) },
	}
}

func create(t *testing.T, cfg slot.Config) *slot.Slot {
	s, err := slot.Create(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(s.Release)
	return s
}

func TestSlotWithSnapshotSplitsHistoryInTwo(t *testing.T) {
	t.Parallel()
	// A cluster of its own: slots wait for every transaction of the server.
	c := pgtest.Own(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	app := pgtest.Conn(t, dsn)
	pgtest.Exec(t, app, "CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t VALUES (1)")
	cfg := config(dsn)
	s := create(t, cfg)
	pgtest.Exec(t, app, "INSERT INTO public.t VALUES (2)")

	h, err := snapshot.Import(t.Context(), cfg.Connect, s.Snapshot)
	require.NoError(t, err)
	defer h.Close()
	s.Release()
	reader := pgtest.Conn(t, dsn)
	require.NoError(t, snapshot.Begin(t.Context(), reader, h.ID(), time.Second))
	require.Equal(t, "1", pgtest.Value(t, reader, "SELECT string_agg(id::text, ',') FROM public.t"))

	state, ok, err := slot.Get(t.Context(), app, s.Name)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "pgoutput", state.Plugin)
	require.Equal(t, dsn.Database(), state.Database)
	require.Equal(t, s.ConsistentPoint, state.ConfirmedFlush)
	require.Equal(t, "reserved", state.WALStatus)
	require.False(t, state.Lost())
	require.Positive(t, state.Retained)
	require.EqualValues(t, -1, state.SafeWALSize)

	_, err = slot.Create(t.Context(), cfg)
	require.ErrorIs(t, err, slot.ErrExists)
	_, ok, err = slot.Get(t.Context(), app, s.Name)
	require.NoError(t, err)
	require.True(t, ok, "a slot that was there before must stay")
	require.NoError(t, slot.Drop(t.Context(), app, s.Name))
	require.NoError(t, slot.Drop(t.Context(), app, s.Name))
	_, ok, err = slot.Get(t.Context(), app, s.Name)
	require.NoError(t, err)
	require.False(t, ok)
}

// TestRowVersionsAreKeptWhileASlotIsMade sees the session that keeps them from before the slot is
// asked for until its snapshot has been imported.
func TestRowVersionsAreKeptWhileASlotIsMade(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	app, look := pgtest.Conn(t, dsn), pgtest.Conn(t, dsn)
	pgtest.Exec(t, app, "BEGIN")
	first := pgtest.Value(t, app, "SELECT pg_current_xact_id()::text")
	kept := func() string {
		return pgtest.Value(t, look, `SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND backend_xid IS NULL
			AND backend_xmin::text::bigint <= `+first+` AND application_name LIKE '%horizon'`)
	}
	cfg := config(dsn)
	cfg.Connect = func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, dsn, pg.WithName("horizon")) }
	waiting := make(chan struct{})
	var once sync.Once
	cfg.OnBlocked = func([]slot.Blocker) { once.Do(func() { close(waiting) }) }
	made := make(chan *slot.Slot, 1)
	go func() {
		s, err := slot.Create(t.Context(), cfg)
		if err != nil {
			t.Errorf("create the slot: %v", err)
		}
		made <- s
	}()
	<-waiting
	require.Equal(t, "1", kept())
	pgtest.Exec(t, app, "COMMIT")
	s := <-made
	require.NotNil(t, s)
	require.Equal(t, "1", kept(), "until the snapshot is imported")
	s.Release()
	require.Eventually(t, func() bool { return kept() == "0" }, pgtest.Timeout, time.Millisecond)
	require.NoError(t, slot.Drop(t.Context(), look, s.Name))
}

// TestASlotWhoseRowVersionsWereNotKeptIsNotMade ends the session that keeps them while the slot is
// made.
func TestASlotWhoseRowVersionsWereNotKeptIsNotMade(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	app, look := pgtest.Conn(t, dsn), pgtest.Conn(t, c.AdminDSN(dsn.Database()))
	pgtest.Exec(t, app, "BEGIN; SELECT pg_current_xact_id()")
	cfg := config(dsn)
	cfg.Connect = func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, dsn, pg.WithName("horizon")) }
	waiting := make(chan struct{})
	var once sync.Once
	cfg.OnBlocked = func([]slot.Blocker) { once.Do(func() { close(waiting) }) }
	failed := make(chan error, 1)
	go func() {
		_, err := slot.Create(t.Context(), cfg)
		failed <- err
	}()
	<-waiting
	require.Equal(t, "1", pgtest.Value(t, look, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE state = 'idle in transaction' AND application_name LIKE '%horizon'`))
	pgtest.Exec(t, app, "COMMIT")
	require.ErrorIs(t, <-failed, snapshot.ErrLost)
	require.Equal(t, "0", pgtest.Value(t, look, "SELECT count(*) FROM pg_replication_slots"), "no slot is left")
}

func TestOpenTransactionBlocksAndIsNamed(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	app := pgtest.Conn(t, dsn, pg.WithName("the application"))
	pgtest.Exec(t, app, "BEGIN; SELECT pg_current_xact_id()")
	cfg := config(dsn)
	cfg.Wait = 3 * time.Second
	told := make(chan []slot.Blocker, 10)
	cfg.OnBlocked = func(b []slot.Blocker) { told <- b }
	_, err := slot.Create(t.Context(), cfg)
	var blocked *slot.BlockedError
	require.ErrorAs(t, err, &blocked)
	require.Len(t, blocked.Blockers, 1)
	require.Equal(t, int32(app.PgConn().PID()), blocked.Blockers[0].PID)
	require.ErrorContains(t, err, `application "crossfade the application"`)
	require.Equal(t, int32(app.PgConn().PID()), (<-told)[0].PID)
	probe := pgtest.Conn(t, dsn)
	require.Equal(t, "0", pgtest.Value(t, probe, "SELECT count(*) FROM pg_replication_slots"), "an unfinished slot was left")
	require.Equal(t, "0", pgtest.Value(t, probe, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'"))

	pgtest.Exec(t, app, "PREPARE TRANSACTION 'left over'")
	blockers, err := slot.Blockers(t.Context(), probe)
	require.NoError(t, err)
	require.Len(t, blockers, 1)
	require.Contains(t, blockers[0].String(), `prepared transaction "left over"`)

	// It ends while the creation waits.
	cfg.OnBlocked = func([]slot.Blocker) { pgtest.Exec(t, app, "ROLLBACK PREPARED 'left over'") }
	cfg.Wait = time.Minute
	create(t, cfg)
}

func TestCancelLeavesNoSlot(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	app := pgtest.Conn(t, dsn)
	pgtest.Exec(t, app, "BEGIN; SELECT pg_current_xact_id()")
	cfg := config(dsn)
	ctx, cancel := context.WithCancel(t.Context())
	cfg.OnBlocked = func([]slot.Blocker) { cancel() }
	_, err := slot.Create(ctx, cfg)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "0", pgtest.Value(t, pgtest.Conn(t, dsn), "SELECT count(*) FROM pg_replication_slots"))
}

func TestDropOfASlotInUse(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	app := pgtest.Conn(t, dsn)
	cfg := config(dsn)
	s := create(t, cfg)
	s.Release()
	require.NoError(t, slot.EnsurePublication(t.Context(), app, slot.PublicationConfig{Name: "p"}))
	stream, err := cfg.Replication(t.Context())
	require.NoError(t, err)
	ended := make(chan struct{})
	defer func() { <-ended; _ = stream.Close(context.Background()) }()
	go func() {
		defer close(ended)
		_, _ = stream.Exec(context.Background(), "START_REPLICATION SLOT "+s.Name+" LOGICAL 0/0 (proto_version '1', publication_names 'p')").ReadAll()
	}()
	var holder int
	require.Eventually(t, func() bool {
		state, _, err := slot.Get(t.Context(), app, s.Name)
		holder = int(state.ActivePID)
		return err == nil && state.Active
	}, pgtest.Timeout, 5*time.Millisecond)
	require.NoError(t, syscall.Kill(holder, syscall.SIGSTOP)) // it does not end when it is told to
	defer func() { _ = syscall.Kill(holder, syscall.SIGCONT) }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // enough to see the holder once
	defer cancel()
	fresh := pgtest.Conn(t, dsn)
	err = slot.Drop(ctx, fresh, s.Name)
	require.ErrorContains(t, err, "in use by pid "+strconv.Itoa(holder))
	require.NoError(t, syscall.Kill(holder, syscall.SIGCONT))
	require.NoError(t, slot.Drop(t.Context(), app, s.Name))
}

func TestNamesAreChecked(t *testing.T) {
	t.Parallel()
	none := func(context.Context) (*pgx.Conn, error) { panic("must not connect") }
	cfg := slot.Config{Name: "Crossfade-1", Connect: none,
		Replication: func(context.Context) (*pgconn.PgConn, error) { panic("must not connect") }}
	_, err := slot.Create(t.Context(), cfg)
	require.ErrorContains(t, err, "lower-case")
}
