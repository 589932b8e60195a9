package compare_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/compare"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/verify"
)

const three = `CREATE TABLE public.a (id int PRIMARY KEY, v text); CREATE TABLE public.b (id int PRIMARY KEY, v text); CREATE TABLE public.c (id int PRIMARY KEY, v text);
	INSERT INTO public.a SELECT i, 'v' FROM generate_series(1, 100) i; INSERT INTO public.b SELECT * FROM public.a; INSERT INTO public.c SELECT * FROM public.a; CREATE SEQUENCE public.s;`

// jobs makes Jobs over one pair of databases, as starts of a program do.
type jobs struct {
	*pair
	err error // of a pair, if set
}

func newJobs(t *testing.T) *jobs {
	p := newPair(t, three)
	require.NoError(t, journal.InstallTarget(t.Context(), p.target, journal.TargetRun{RunID: "r", Key: "k", Mode: "run"}))
	return &jobs{pair: p}
}

// start returns a Job that runs until the returned function is called.
func (j *jobs) start(change ...func(*compare.Config)) (*compare.Job, func()) {
	j.t.Helper()
	link := func(d pg.DSN) *dbconn.Link {
		l := dbconn.New(d)
		j.t.Cleanup(l.Close)
		return l
	}
	connect := func(d pg.DSN) func(context.Context) (*pgx.Conn, error) {
		return func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, d, pg.WithName("verify")) }
	}
	name := func(n string) pg.Name { return pg.Name{Schema: "public", Name: n} }
	cfg := compare.Config{Direction: "forward", From: link(j.from), To: link(j.to), Journal: link(j.to), Log: zerolog.Nop(),
		Pair: func(func(string)) func(context.Context) (*verify.Frozen, error) {
			return func(ctx context.Context) (*verify.Frozen, error) {
				if j.err != nil {
					return nil, j.err
				}
				return verify.Freeze(ctx, connect(j.from), connect(j.to))
			}
		},
		Tables: func(context.Context) ([]verify.Table, error) {
			var all []verify.Table
			for _, n := range []string{"a", "b", "c"} {
				all = append(all, verify.Table{Name: name(n), Columns: []string{"id", "v"}, Key: []string{"id"}})
			}
			return all, nil
		},
		Path: func() string { return "" }, LateChecks: func() []string { return nil },
		Sizes: func() map[pg.Name]int64 { return map[pg.Name]int64{name("c"): 1 << 30} },
	}
	for _, f := range change {
		f(&cfg)
	}
	job := compare.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- job.Run(ctx) }()
	ended := false
	stop := func() {
		if !ended {
			ended = true
			cancel()
			require.NoError(j.t, <-done)
		}
	}
	j.t.Cleanup(stop)
	return job, stop
}

func (j *jobs) verify(job *compare.Job) (control.VerifyReport, error) {
	ctx, cancel := context.WithTimeout(j.t.Context(), pgtest.Timeout)
	defer cancel()
	return job.Verify(ctx)
}

func await(t *testing.T, job *compare.Job, what func(control.Verify) bool) control.Verify {
	t.Helper()
	require.Eventually(t, func() bool { return what(job.Status()) }, pgtest.Timeout, 5*time.Millisecond)
	return job.Status()
}

// A comparison that was interrupted is continued by another start, table by table, and one that has
// become too old is begun again.
func TestAnInterruptedComparisonIsContinued(t *testing.T) {
	t.Parallel()
	j := newJobs(t)
	locked := pgtest.Conn(t, j.to)
	pgtest.Exec(t, locked, "BEGIN; LOCK TABLE public.c IN ACCESS EXCLUSIVE MODE")
	job, stop := j.start()
	waiting := make(chan error, 1)
	go func() {
		_, err := j.verify(job)
		waiting <- err
	}()
	await(t, job, func(v control.Verify) bool { return v.State == "running" && v.TablesDone == 2 && v.TablesTotal == 3 })
	left, leave := context.WithCancel(t.Context())
	leave()
	_, err := job.Verify(left)
	require.ErrorIs(t, err, context.Canceled, "who waits may leave")
	stop() // the program is killed, as far as the journal can tell
	require.Error(t, <-waiting)

	// It is seen whether a table is read again.
	pgtest.Exec(t, j.target, "UPDATE public.a SET v = 'other'")
	pgtest.Exec(t, locked, "ROLLBACK")
	job, stop = j.start()
	await(t, job, func(v control.Verify) bool { return v.State == control.VerifyInterrupted && v.TablesDone == 2 })
	require.Nil(t, job.Last())
	r, err := j.verify(job)
	require.NoError(t, err)
	require.Equal(t, control.Equal, r.Outcome, "%+v", r)
	require.Equal(t, []int{3, 1}, []int{r.Tables, r.Sequences})

	r, err = j.verify(job)
	require.NoError(t, err)
	require.Equal(t, control.Different, r.Outcome, "a new one reads everything")
	require.Equal(t, "public.a", r.Differences[0].Name)
	require.Len(t, r.Differences[0].Keys, 100)
	stop()

	job, _ = j.start()
	v := await(t, job, func(v control.Verify) bool { return v.State == control.Different })
	require.EqualValues(t, 1, v.Differences)
	require.Equal(t, r, *job.Last(), "it is remembered")

	// An interrupted one that is too old is not continued.
	j.err = errors.New("no slot is free")
	_, err = j.verify(job)
	require.ErrorContains(t, err, "no slot is free")
	require.Equal(t, control.VerifyInterrupted, job.Status().State)
	require.Contains(t, job.Status().Waits, "no slot is free")
	pgtest.Exec(t, j.target, "INSERT INTO crossfade.verified (round, kind, nsp, rel, verdict) SELECT max(round), 'table', 'public', 'a', 'equal' FROM crossfade.verification")
	j.err = nil
	job, _ = j.start(func(c *compare.Config) { c.MaxAge = time.Nanosecond })
	await(t, job, func(v control.Verify) bool { return v.State == control.VerifyInterrupted })
	require.Equal(t, r, *job.Last(), "the one before was completed")
	r, err = j.verify(job)
	require.NoError(t, err)
	require.Equal(t, control.Different, r.Outcome)
}

// A comparison that is stopped says why, and lets the databases go.
func TestAComparisonIsStopped(t *testing.T) {
	t.Parallel()
	j := newJobs(t)
	locked := pgtest.Conn(t, j.to)
	pgtest.Exec(t, locked, "BEGIN; LOCK TABLE public.c IN ACCESS EXCLUSIVE MODE")
	job, _ := j.start()
	stopped, err := job.Stop(t.Context(), compare.ErrStopped)
	require.NoError(t, err)
	require.False(t, stopped)
	waiting := make(chan error, 1)
	go func() {
		_, err := j.verify(job)
		waiting <- err
	}()
	await(t, job, func(v control.Verify) bool { return v.TablesDone == 2 })
	stopped, err = job.Stop(t.Context(), compare.ErrStopped)
	require.NoError(t, err)
	require.True(t, stopped)
	require.ErrorIs(t, <-waiting, compare.ErrStopped)
	require.Eventually(t, func() bool {
		return pgtest.Value(t, j.source, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'crossfade verify%'") == "0"
	}, pgtest.Timeout, 5*time.Millisecond, "no snapshot is held")
	require.Contains(t, job.Status().Waits, "--cancel")
}

// What does not count as verified is told with its reason.
func TestWhatIsNotVerifiedIsTold(t *testing.T) {
	t.Parallel()
	j := newJobs(t)
	job, _ := j.start()
	await(t, job, func(control.Verify) bool {
		b := job.NotVerified(time.Hour)
		return b != nil && b.Detail == "the two sides have not been compared yet"
	})
	require.Contains(t, job.NotVerified(time.Hour).Remedy, "crossfade verify")
	pgtest.Exec(t, j.target, "DROP SEQUENCE public.s")
	r, err := j.verify(job)
	require.NoError(t, err)
	require.Equal(t, control.Different, r.Outcome)
	require.Contains(t, job.NotVerified(time.Hour).Detail, "sequence public.s: the sequence does not exist at the target")
	pgtest.Exec(t, j.target, "CREATE SEQUENCE public.s")
	pgtest.Exec(t, j.source, "SELECT setval('public.s', 40)") // the decision sets the target's
	r, err = j.verify(job)
	require.NoError(t, err)
	require.Equal(t, control.Equal, r.Outcome, "%+v", r)
	require.Nil(t, job.NotVerified(time.Hour))
	require.Nil(t, job.NotVerified(0), "of any age")
	require.Contains(t, job.NotVerified(time.Nanosecond).Detail, "--verify-max-age is 1ns")
}
