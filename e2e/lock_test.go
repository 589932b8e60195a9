package e2e_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/control"
	"crossfade/internal/pg"
	"crossfade/internal/pgcluster/pgtest"
)

// longestWait is the source lock timeout of 200 ms, and room for a scheduler
// that has two cores for everything. An application's statement that waits
// longer for a lock gets an error and fails the test.
const longestWait = "600ms"

// busy runs f on a session of its own, again and again, until the test has
// stopped it, and hands out its first error.
type busy struct {
	stop context.CancelFunc
	wg   sync.WaitGroup
	mu   sync.Mutex
	err  error
	n    int
}

func keepBusy(conns []*pgx.Conn, f func(ctx context.Context, conn *pgx.Conn) error) *busy {
	ctx, stop := context.WithCancel(context.Background())
	b := &busy{stop: stop}
	for _, conn := range conns {
		b.wg.Go(func() {
			for ctx.Err() == nil {
				err := f(context.Background(), conn)
				b.mu.Lock()
				b.n++
				if err != nil && b.err == nil {
					b.err = err
				}
				b.mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	return b
}

func (b *busy) end(t *testing.T) int {
	t.Helper()
	b.stop()
	b.wg.Wait()
	require.NoError(t, b.err)
	return b.n
}

func lockSchema(t *testing.T, s *sides) {
	t.Helper()
	pgtest.Exec(t, pgtest.Conn(t, s.source), `CREATE TABLE public.hot (id int PRIMARY KEY, n bigint NOT NULL);
		INSERT INTO public.hot SELECT i, 0 FROM generate_series(1, 100) i;
		CREATE TABLE public.scratch (id int PRIMARY KEY, n int);
		CREATE TABLE public.big (id int PRIMARY KEY, pad text);
		INSERT INTO public.big SELECT i, repeat('x', 200) FROM generate_series(1, 60000) i;
		DELETE FROM public.big WHERE id % 2 = 0;
		CREATE MATERIALIZED VIEW public.total AS SELECT count(*) AS n FROM public.big`)
}

// startLocked starts a run over the schema above with applications that write,
// and returns their sessions' work and how many updates were acknowledged.
func startLocked(t *testing.T) (*sides, *process, *busy) {
	t.Helper()
	s := newSides(t)
	lockSchema(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitServing()
	var conns []*pgx.Conn
	for range 4 {
		conns = append(conns, application(t, p, longestWait))
	}
	i := 0
	var mu sync.Mutex
	b := keepBusy(conns, func(ctx context.Context, conn *pgx.Conn) error {
		mu.Lock()
		i++
		id := i%100 + 1
		mu.Unlock()
		_, err := conn.Exec(ctx, "UPDATE public.hot SET n = n + 1 WHERE id = $1", id)
		return err
	})
	t.Cleanup(func() { b.stop(); b.wg.Wait() })
	p.awaitFollowing()
	// What a REFRESH brought since the copy is not in the stream of changes.
	pgtest.Exec(t, pgtest.Conn(t, s.source), `INSERT INTO public.big VALUES (1000000, 'late'); REFRESH MATERIALIZED VIEW public.total`)
	return s, p, b
}

// endLocked judges: nobody waited too long, and no update is lost or doubled.
func endLocked(t *testing.T, s *sides, p *process, b *busy) {
	t.Helper()
	n := b.end(t)
	require.Equal(t, int64(n), number(t, pgtest.Conn(t, s.target), "SELECT sum(n)::bigint FROM public.hot"))
	_, err := awaitRow(pgtest.Conn(t, s.target), `SELECT 1 FROM public.total WHERE n = 30001`)
	require.NoError(t, err, "the materialised view is as fresh as the source's was")
	p.awaitWhole()
	require.Equal(t, "equal", p.await("it tells", func(control.Status) bool { return true }).Verify.State)
	require.Equal(t, 0, p.stop())
}

func number(t *testing.T, conn *pgx.Conn, sql string) (n int64) {
	t.Helper()
	require.NoError(t, conn.QueryRow(context.Background(), sql).Scan(&n))
	return n
}

// patientCutover asks for a cutover that may try often.
func patientCutover(t *testing.T, p *process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := p.client.Cutover(ctx, control.CutoverOptions{Attempts: 30, DrainTimeoutMS: 500})
	require.NoError(t, err)
	require.Equal(t, control.OutcomeSwitched, r.Outcome, r.Reason)
	require.Zero(t, r.ClientErrors)
}

func TestCutoverWhileAnApplicationHoldsLocks(t *testing.T) {
	t.Parallel()
	s, p, b := startLocked(t)
	holder := application(t, p, "0")
	pgtest.Exec(t, holder, "BEGIN; LOCK TABLE public.scratch IN ACCESS EXCLUSIVE MODE; INSERT INTO public.scratch VALUES (1, 1); UPDATE public.big SET pad = 'y' WHERE id = 1")
	// The locks are let go once the cutover has met them.
	watcher := pgtest.Conn(t, s.source)
	released := make(chan error, 1)
	go func() {
		_, err := awaitRow(watcher, `SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'crossfade%' AND wait_event_type = 'Lock'`)
		if err == nil {
			_, err = holder.Exec(context.Background(), "COMMIT")
		}
		released <- err
	}()
	patientCutover(t, p)
	require.NoError(t, <-released)
	require.EqualValues(t, 1, number(t, pgtest.Conn(t, s.target), "SELECT count(*) FROM public.scratch"))
	endLocked(t, s, p, b)
}

// awaitRow asks until a query gives a row.
func awaitRow(conn *pgx.Conn, sql string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var n int
		err := conn.QueryRow(ctx, sql).Scan(&n)
		if err == nil || err != pgx.ErrNoRows {
			return n, err
		}
		<-tick.C
	}
}

func TestCutoverWhileVacuumRuns(t *testing.T) {
	t.Parallel()
	s, p, b := startLocked(t)
	// A manual VACUUM holds the lock of autovacuum and, like one against
	// wraparound, gives way to nobody. It takes some seconds.
	vacuum, err := pg.Connect(context.Background(), s.sourceCluster.AdminDSN(s.source.Database()), pg.WithName("test"))
	require.NoError(t, err)
	defer func() { _ = vacuum.Close(context.Background()) }()
	pgtest.Exec(t, vacuum, "SET application_name = 'slow vacuum'; SET vacuum_cost_delay = '10ms'; SET vacuum_cost_limit = 100")
	done := make(chan error, 1)
	go func() {
		_, err := vacuum.Exec(context.Background(), "VACUUM (FREEZE) public.big")
		done <- err
	}()
	_, err = awaitRow(pgtest.Conn(t, s.source), `SELECT 1 FROM pg_stat_progress_vacuum WHERE datname = current_database()`)
	require.NoError(t, err)
	patientCutover(t, p)
	require.NoError(t, <-done)
	endLocked(t, s, p, b)
}

func TestCutoverWhileTheApplicationTruncates(t *testing.T) {
	t.Parallel()
	s, p, b := startLocked(t)
	n := 0
	truncate := keepBusy([]*pgx.Conn{application(t, p, longestWait)}, func(ctx context.Context, conn *pgx.Conn) error {
		n++
		_, err := conn.Exec(ctx, "INSERT INTO public.scratch VALUES ($1, 1)", n)
		if err == nil && n%5 == 0 {
			_, err = conn.Exec(ctx, "TRUNCATE public.scratch")
		}
		return err
	})
	t.Cleanup(func() { truncate.stop(); truncate.wg.Wait() })
	patientCutover(t, p)
	truncate.end(t)
	require.EqualValues(t, n%5, number(t, pgtest.Conn(t, s.target), "SELECT count(*) FROM public.scratch"))
	endLocked(t, s, p, b)
}
