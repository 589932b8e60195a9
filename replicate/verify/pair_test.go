package verify

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
)

// followed is a source whose changes a target follows.
type followed struct {
	*fixture
	stream *apply.Follower
	pair   *Following
}

const accounts = `CREATE TABLE public.accounts (id int PRIMARY KEY, n int NOT NULL, filler text); CREATE TABLE public.history (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, account int);`

func newFollowed(t *testing.T, source *pgcluster.Cluster) *followed {
	f := &followed{fixture: &fixture{t: t, from: pgtest.Database(t, source), to: pgtest.Database(t, pgtest.Shared(t, pgtest.Target))}}
	f.source, f.target = pgtest.Conn(t, f.from), pgtest.Conn(t, f.to)
	for _, c := range []*pgx.Conn{f.source, f.target} {
		pgtest.Exec(t, c, accounts+`INSERT INTO public.accounts SELECT i, 0, md5(i::text) FROM generate_series(1, 20000) i`)
	}
	pgtest.Exec(t, f.target, journal.TargetDDL)
	pgtest.Exec(t, f.source, `CREATE PUBLICATION crossfade FOR TABLE public.accounts, public.history`)
	name := "follow_" + f.from.Database()
	start, err := pg.ParseLSN(pgtest.Value(t, f.source, `SELECT lsn FROM pg_create_logical_replication_slot($1, 'pgoutput')`, name))
	require.NoError(t, err)
	f.stream, err = apply.NewFollower(apply.Config{Source: f.from, Target: f.to, Slot: name, Publication: "crossfade", Start: start, Logger: zerolog.Nop()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.stream.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
	f.cfg = Config{ChunkBytes: 64 << 10, Tables: []Table{
		{Name: pg.Name{Schema: "public", Name: "accounts"}, Columns: []string{"id", "n", "filler"}, Key: []string{"id"}},
		{Name: pg.Name{Schema: "public", Name: "history"}, Columns: []string{"id", "account"}, Key: []string{"id"}},
	}}
	f.pair = &Following{From: f.connect(f.from), To: f.connect(f.to), SlotPrefix: "crossfade_test", Stream: func() (Stream, error) { return f.stream, nil },
		Replication: func(ctx context.Context) (*pgconn.PgConn, error) { return pg.ConnectReplication(ctx, f.from) }}
	return f
}

// load writes until the returned function is called.
func (f *followed) load(clients int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for client := range clients {
		conn := pgtest.Conn(f.t, f.from)
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := conn.Exec(context.Background(), fmt.Sprintf(`BEGIN; UPDATE public.accounts SET n = n + 1 WHERE id = %d; INSERT INTO public.history (account) VALUES (%[1]d); COMMIT`, (n*7+client*1000)%4000+1)); err != nil {
					f.t.Error(err)
					return
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
	})
	f.t.Cleanup(stop)
	return stop
}

// round compares everything from pairs, and returns what was told.
func (f *followed) round(change ...func(*Round)) map[string]Result {
	f.t.Helper()
	told := map[string]Result{}
	r := &Round{Config: f.cfg, Pair: f.pair.Freeze}
	r.Config.Settled = func(result Result) { told[result.Name.Display()] = result }
	for _, c := range change {
		c(r)
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), pgtest.Timeout)
	defer cancel()
	require.NoError(f.t, r.Run(ctx))
	require.Len(f.t, told, len(f.cfg.Tables))
	done, whole := r.Progress()
	require.Equal(f.t, whole, done)
	return told
}

// While applications write, a comparison finds what differs and nothing else. No slot stays.
func TestAComparisonWhileFollowing(t *testing.T) {
	t.Parallel()
	f := newFollowed(t, pgtest.Shared(t, pgtest.Source))
	stop := f.load(4)
	for range 3 {
		for name, result := range f.round() {
			require.Equal(t, Equal, result.Verdict, "%s: %+v", name, result)
		}
	}
	// The applier must not meet these rows: nobody writes to them.
	pgtest.Exec(t, f.target, `INSERT INTO public.accounts VALUES (-5, 0, 'extra')`)
	pgtest.Exec(t, f.target, `UPDATE public.accounts SET filler = set_byte(filler::bytea, 3, get_byte(filler::bytea, 3) # 1)::text WHERE id = 4321`)
	pgtest.Exec(t, f.source, `INSERT INTO public.accounts VALUES (-7, 0, 'missing')`)
	require.Eventually(t, func() bool {
		return pgtest.Value(t, f.target, "SELECT count(*) FROM public.accounts WHERE id = -7") == "1"
	}, pgtest.Timeout, 5*time.Millisecond)
	pgtest.Exec(t, f.target, `DELETE FROM public.accounts WHERE id = -7`)
	told := f.round()
	require.Equal(t, []Difference{{"(-5)", "extra"}, {"(-7)", "missing"}, {"(4321)", "changed"}}, told["public.accounts"].Keys)
	require.False(t, told["public.accounts"].More)
	require.Equal(t, Equal, told["public.history"].Verdict)
	stop()
	require.Equal(t, "1", pgtest.Value(t, f.source, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"))
}

// Transactions that are open for long are waited for, named, and do not stop the stream.
func TestOpenTransactionsAreNamed(t *testing.T) {
	t.Parallel()
	f := newFollowed(t, pgtest.Own(t, pgtest.Source))
	long := pgtest.Conn(t, f.from)
	pgtest.Exec(t, long, "SET application_name = 'nightly'; BEGIN; INSERT INTO public.history (account) VALUES (1)")
	var mu sync.Mutex
	waits := ""
	f.pair.Waits = func(what string) {
		mu.Lock()
		defer mu.Unlock()
		waits = what
	}
	f.pair.Patience = 2 * time.Second
	_, err := f.pair.Freeze(t.Context())
	require.ErrorAs(t, err, new(*OpenTransactionsError))
	require.ErrorContains(t, err, `application "nightly"`)
	f.pair.Patience = pgtest.Timeout
	done := make(chan error, 1)
	go func() {
		pair, err := f.pair.Freeze(t.Context())
		if err == nil {
			pair.Close()
		}
		done <- err
	}()
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return waits != ""
	}, pgtest.Timeout, 5*time.Millisecond)
	mu.Lock()
	require.Contains(t, waits, "nightly")
	mu.Unlock()
	pgtest.Exec(t, f.source, "UPDATE public.accounts SET n = 77 WHERE id = 1")
	require.Eventually(t, func() bool {
		return pgtest.Value(t, f.target, "SELECT n FROM public.accounts WHERE id = 1") == "77"
	}, pgtest.Timeout, 5*time.Millisecond, "the stream goes on")
	pgtest.Exec(t, long, "COMMIT")
	require.NoError(t, <-done)
	mu.Lock()
	defer mu.Unlock()
	require.Empty(t, waits)
}

// A server without a free slot says what to do, and the stream goes on.
func TestASourceWithoutAFreeSlot(t *testing.T) {
	t.Parallel()
	f := newFollowed(t, pgtest.Own(t, pgtest.Source, func(c *pgcluster.Config) {
		c.Settings["max_replication_slots"] = "1"
	}))
	_, err := f.pair.Freeze(t.Context())
	require.ErrorContains(t, err, "raise max_replication_slots")
	pgtest.Exec(t, f.source, "UPDATE public.accounts SET n = 78 WHERE id = 1")
	require.Eventually(t, func() bool {
		return pgtest.Value(t, f.target, "SELECT n FROM public.accounts WHERE id = 1") == "78"
	}, pgtest.Timeout, 5*time.Millisecond)
}
