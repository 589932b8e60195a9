package e2e_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// longestWait is far above the source lock timeout of 200 ms, for a scheduler
// that has two cores for everything, and far below what these tests keep others
// waiting who ask without a bound. An application's statement that waits longer
// for a lock gets an error and fails the test.
const longestWait = "2s"

// pace is the time between two statements of an application's session.
const pace = 10 * time.Millisecond

// busy runs f on a session of its own, at a pace, until the test has stopped it,
// and hands out its first error.
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
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
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
		CREATE TABLE public.log (id int); ALTER TABLE public.log REPLICA IDENTITY FULL;
		CREATE TABLE public.scratch (id int PRIMARY KEY, n int);
		CREATE TABLE public.big (id int PRIMARY KEY, pad text);
		INSERT INTO public.big SELECT i, repeat('x', 200) FROM generate_series(1, 60000) i;
		DELETE FROM public.big WHERE id % 2 = 0;
		CREATE MATERIALIZED VIEW public.total AS SELECT count(*) AS n FROM public.big`)
}

// startLocked starts a run over the schema above with applications that write,
// and returns their sessions' work and how many updates were acknowledged. While
// the copy stands still, meanwhile is called: before any table has its fence.
func startLocked(t *testing.T, meanwhile func(s *sides, p *process)) (*sides, *process, *busy) {
	t.Helper()
	s := newSides(t)
	lockSchema(t, s)
	p := newProcess(t, s)
	if meanwhile == nil {
		p.start()
		p.awaitServing()
	} else {
		p.start("phase.prepared=kill")
		require.Equal(t, -1, p.wait(), "the program is killed")
		chunk := s.holdWhere(t, "target", "crossfade.chunk", "true")
		p.start()
		p.awaitServing()
		chunk.met()
		meanwhile(s, p)
		defer chunk.release()
	}
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
		_, err := conn.Exec(ctx, `WITH others AS (UPDATE public.big SET pad = 'z' WHERE id = $2), new AS (INSERT INTO public.log VALUES ($1))
			UPDATE public.hot SET n = n + 1 WHERE id = $1`, id, 2*id+1)
		return err
	})
	t.Cleanup(func() { b.stop(); b.wg.Wait() })
	return s, p, b
}

// refresh waits until the run follows, and changes a materialised view then.
func refresh(t *testing.T, s *sides, p *process) {
	t.Helper()
	p.awaitFollowing()
	// What a REFRESH brought since the copy is not in the stream of changes.
	pgtest.Exec(t, pgtest.Conn(t, s.source), `INSERT INTO public.big VALUES (1000000, 'late'); REFRESH MATERIALIZED VIEW public.total`)
}

// endLocked judges: nobody waited too long, and no update is lost or doubled. The
// tables compare as equal, or as the caller says.
func endLocked(t *testing.T, s *sides, p *process, b *busy, compared ...string) {
	t.Helper()
	n := b.end(t)
	require.Equal(t, int64(n), number(t, pgtest.Conn(t, s.target), "SELECT sum(n)::bigint FROM public.hot"))
	_, err := awaitRow(pgtest.Conn(t, s.target), `SELECT 1 FROM public.total WHERE n = 30001`)
	require.NoError(t, err, "the materialised view is as fresh as the source's was")
	p.awaitWhole()
	v := p.await("it tells", func(control.Status) bool { return true }).Verify
	require.Contains(t, append(compared, "equal"), v.State, "%+v", v)
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
	r, err := p.request(ctx, control.CutoverOptions{Attempts: 30, DrainTimeoutMS: 500})
	require.NoError(t, err)
	require.Equal(t, control.OutcomeSwitched, r.Outcome, r.Reason)
	require.Zero(t, r.ClientErrors)
}

func TestCutoverWhileAnApplicationHoldsLocks(t *testing.T) {
	t.Parallel()
	s, p, b := startLocked(t, nil)
	refresh(t, s, p)
	holder := application(t, p, "0")
	pgtest.Exec(t, holder, "BEGIN; LOCK TABLE public.scratch IN ACCESS EXCLUSIVE MODE; INSERT INTO public.scratch VALUES (1, 1); UPDATE public.big SET pad = 'y' WHERE id = 1")
	// The locks are let go once the cutover has met them, given up and met them again.
	watcher := pgtest.Conn(t, s.source)
	released := make(chan error, 1)
	go func() {
		err := awaitWaits(watcher, 2)
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

// awaitWaits waits until sessions of the program have waited n times for a lock.
func awaitWaits(conn *pgx.Conn, n int) error {
	seen := map[time.Time]bool{}
	for len(seen) < n {
		var since time.Time
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := awaitScan(ctx, conn, `SELECT l.waitstart FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE a.application_name LIKE 'crossfade%' AND l.waitstart IS NOT NULL AND NOT l.waitstart = ANY ($1) LIMIT 1`,
			[]any{slices.AppendSeq([]time.Time{}, maps.Keys(seen))}, &since)
		cancel()
		if err != nil {
			return err
		}
		seen[since] = true
	}
	return nil
}

// awaitRow asks until a query gives a row.
func awaitRow(conn *pgx.Conn, sql string) (n int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return n, awaitScan(ctx, conn, sql, nil, &n)
}

// awaitScan asks until a query gives a row, and reads it.
func awaitScan(ctx context.Context, conn *pgx.Conn, sql string, args []any, to ...any) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := conn.QueryRow(ctx, sql, args...).Scan(to...); err == nil || err != pgx.ErrNoRows {
			return err
		}
		<-tick.C
	}
}

func TestCutoverWhileVacuumRuns(t *testing.T) {
	t.Parallel()
	s, p, b := startLocked(t, nil)
	refresh(t, s, p)
	done := vacuum(t, s)
	patientCutover(t, p)
	require.NoError(t, <-done)
	endLocked(t, s, p, b)
}

// vacuum begins a VACUUM that takes some seconds. A manual one holds the lock of
// autovacuum and, like one against wraparound, gives way to nobody.
func vacuum(t *testing.T, s *sides) <-chan error {
	t.Helper()
	conn, err := pg.Connect(context.Background(), s.sourceCluster.AdminDSN(s.source.Database()), pg.WithName("test"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	pgtest.Exec(t, conn, "SET application_name = 'slow vacuum'; SET vacuum_cost_delay = '10ms'; SET vacuum_cost_limit = 100")
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "VACUUM (FREEZE) public.big")
		done <- err
	}()
	_, err = awaitRow(pgtest.Conn(t, s.source), `SELECT 1 FROM pg_stat_progress_vacuum WHERE datname = current_database()`)
	require.NoError(t, err)
	return done
}

// TestTheFenceIsPreparedWhileOthersWork: tables get their fence while others hold locks against it;
// a session that queues behind our request waits only a moment.
func TestTheFenceIsPreparedWhileOthersWork(t *testing.T) {
	t.Parallel()
	var holder, watcher *pgx.Conn
	var vacuumed <-chan error
	s, p, b := startLocked(t, func(s *sides, p *process) {
		holder, watcher = application(t, p, "0"), pgtest.Conn(t, s.source)
		pgtest.Exec(t, holder, "BEGIN; INSERT INTO public.log VALUES (0)")
		vacuumed = vacuum(t, s)
	})
	require.NoError(t, awaitWaits(watcher, 4))
	require.NoError(t, <-vacuumed)
	pgtest.Exec(t, holder, "COMMIT")
	refresh(t, s, p)
	patientCutover(t, p)
	endLocked(t, s, p, b)
}

func TestCutoverWhileTheApplicationTruncates(t *testing.T) {
	t.Parallel()
	s, p, b := startLocked(t, nil)
	refresh(t, s, p)
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
	// A table that was truncated after the switch too has no rows of then to compare.
	endLocked(t, s, p, b, "not_provable")
}
