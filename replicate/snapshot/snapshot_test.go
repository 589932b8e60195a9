package snapshot_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/snapshot"
)

func connector(dsn pg.DSN, name string) snapshot.Connect {
	return func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, dsn, pg.WithName(name)) }
}

func count(t *testing.T, dsn pg.DSN, id string) string {
	conn := pgtest.Conn(t, dsn)
	require.NoError(t, snapshot.Begin(t.Context(), conn, id, time.Second))
	return pgtest.Value(t, conn, "SELECT count(*) FROM public.t")
}

func TestImportedSnapshotOutlivesItsExporter(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	app := pgtest.Conn(t, dsn)
	pgtest.Exec(t, app, "CREATE TABLE public.t (id int); INSERT INTO public.t VALUES (1)")
	first, err := snapshot.Export(t.Context(), connector(dsn, "first"))
	require.NoError(t, err)
	defer first.Close()
	second, err := snapshot.Import(t.Context(), connector(dsn, "second"), first.ID())
	require.NoError(t, err)
	defer second.Close()
	require.Equal(t, first.Text(), second.Text())
	require.NotEqual(t, first.ID(), second.ID())

	pgtest.Exec(t, app, "INSERT INTO public.t VALUES (2)")
	first.Close()
	require.ErrorIs(t, first.Check(t.Context()), snapshot.ErrLost)
	require.NoError(t, second.Check(t.Context()))
	require.Equal(t, "1", count(t, dsn, second.ID()))

	third, err := snapshot.Export(t.Context(), connector(dsn, "third"))
	require.NoError(t, err)
	defer third.Close()
	require.Equal(t, "2", count(t, dsn, third.ID()))
	require.NotEqual(t, second.Text(), third.Text())
}

func TestSnapshotTellsWhichTransactionsItSees(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	before, open := pgtest.Conn(t, dsn), pgtest.Conn(t, dsn)
	xid := func(c *pgx.Conn) uint64 {
		var x uint64
		require.NoError(t, c.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text::bigint").Scan(&x))
		return x
	}
	committed := xid(before)
	pgtest.Exec(t, open, "BEGIN")
	running := xid(open)
	h, err := snapshot.Export(t.Context(), connector(dsn, "holder"))
	require.NoError(t, err)
	defer h.Close()
	pgtest.Exec(t, open, "COMMIT")
	later := xid(before)
	require.True(t, h.Snapshot().Visible(committed))
	require.False(t, h.Snapshot().Visible(running))
	require.False(t, h.Snapshot().Visible(later))
}

func TestImportOfASnapshotThatIsGone(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	h, err := snapshot.Export(t.Context(), connector(dsn, "holder"))
	require.NoError(t, err)
	h.Close()
	// The server ends a session a moment after its client has left.
	require.Eventually(t, func() bool {
		late, err := snapshot.Import(t.Context(), connector(dsn, "importer"), h.ID())
		if err == nil {
			late.Close()
			return false
		}
		require.ErrorIs(t, err, snapshot.ErrLost)
		return true
	}, pgtest.Timeout, 5*time.Millisecond)
	_, err = snapshot.Import(t.Context(), connector(dsn, "importer"), "no such snapshot")
	require.ErrorIs(t, err, snapshot.ErrLost)
}

// The sessions are ended one after the other, each by someone else.
func TestADoubledSnapshotOutlivesEachOfItsSessions(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	app := pgtest.Conn(t, dsn)
	pgtest.Exec(t, app, "CREATE TABLE public.t (id int); INSERT INTO public.t VALUES (1)")
	var pids []uint32
	connect := connector(dsn, "holder")
	h, err := snapshot.Export(t.Context(), func(ctx context.Context) (*pgx.Conn, error) {
		conn, err := connect(ctx)
		if err == nil {
			pids = append(pids, conn.PgConn().PID())
		}
		return conn, err
	})
	require.NoError(t, err)
	defer h.Close()
	require.NoError(t, h.Double(t.Context()))
	text := h.Text()
	pgtest.Exec(t, app, "INSERT INTO public.t VALUES (2)")
	for n := range 4 {
		require.Len(t, pids, n+2)
		id := h.ID()
		pgtest.Exec(t, app, "SELECT pg_terminate_backend($1::int)", pids[n])
		require.NoError(t, h.Check(t.Context()))
		require.NotEqual(t, id, h.ID(), "the id is that of a session that lives")
		require.Equal(t, "1", count(t, dsn, h.ID()))
	}
	require.Equal(t, text, h.Text())
	for _, pid := range pids[len(pids)-2:] {
		pgtest.Exec(t, app, "SELECT pg_terminate_backend($1::int)", pid)
	}
	require.ErrorIs(t, h.Check(t.Context()), snapshot.ErrLost)
	require.ErrorIs(t, h.Check(t.Context()), snapshot.ErrLost)
}

func TestRunEndsWithItsContextAndKeepsTheSnapshot(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	h, err := snapshot.Export(t.Context(), connector(dsn, "holder"))
	require.NoError(t, err)
	defer h.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	cancel()
	require.NoError(t, <-done)
	require.ErrorIs(t, h.Check(ctx), context.Canceled)
	require.NoError(t, h.Check(t.Context()))
}

func TestReadersAreReadOnlyAndBounded(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	app := pgtest.Conn(t, dsn)
	pgtest.Exec(t, app, "CREATE TABLE public.t (id int)")
	h, err := snapshot.Export(t.Context(), connector(dsn, "holder"))
	require.NoError(t, err)
	defer h.Close()
	reader, err := snapshot.Session(t.Context(), connector(dsn, "reader"))
	require.NoError(t, err)
	defer snapshot.Close(reader)
	require.NoError(t, snapshot.Begin(t.Context(), reader, h.ID(), 50*time.Millisecond))
	_, err = reader.Exec(t.Context(), "INSERT INTO public.t VALUES (1)")
	require.Equal(t, pg.CodeReadOnlyTransaction, pg.Code(err))
	pgtest.Exec(t, reader, "ROLLBACK")

	pgtest.Exec(t, app, "BEGIN; LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, snapshot.Begin(t.Context(), reader, h.ID(), 50*time.Millisecond))
	_, err = reader.Exec(t.Context(), "SELECT FROM public.t")
	require.Equal(t, pg.CodeLockNotAvailable, pg.Code(err))
	require.True(t, snapshot.Passing(err))
}

func TestYielderCancelsOnlyWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	app := pgtest.Conn(t, dsn)
	pgtest.Exec(t, app, "CREATE TABLE public.t (id int); CREATE TABLE public.other (id int)")
	y := snapshot.NewYielder(connector(dsn, "yielder"))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- y.Run(ctx) }()

	type outcome struct {
		table string
		err   error
	}
	read := make(chan outcome, 2)
	yielded := make(chan string, 2)
	for _, table := range []string{"t", "other"} {
		conn := pgtest.Conn(t, dsn)
		done := y.Reading(conn, func() { yielded <- table })
		go func() {
			defer done()
			_, err := conn.Exec(t.Context(), "SELECT pg_sleep(15) FROM (SELECT count(*) FROM public."+table+") c")
			read <- outcome{table, err}
		}()
	}
	probe := pgtest.Conn(t, dsn)
	require.Eventually(t, func() bool {
		return pgtest.Value(t, probe, "SELECT count(DISTINCT pid) FROM pg_locks WHERE relation IN ('public.t'::regclass, 'public.other'::regclass)") == "2"
	}, pgtest.Timeout, 5*time.Millisecond)
	start := time.Now()
	pgtest.Exec(t, app, "TRUNCATE public.t")
	require.Less(t, time.Since(start), 12*time.Second)
	first := <-read
	require.Equal(t, "t", first.table)
	require.Equal(t, pg.CodeQueryCanceled, pg.Code(first.err))
	require.NoError(t, (<-read).err)
	require.Equal(t, 1, y.Yielded())
	cancel()
	require.NoError(t, <-ended)
	close(yielded)
	for table := range yielded { // nobody is called who noticed the cancel first
		require.Equal(t, "t", table)
	}
}
