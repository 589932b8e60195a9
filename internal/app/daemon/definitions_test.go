package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/snapshot"
	"crossfade/schema/archive"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
	"crossfade/schema/roles"
)

// watched are the definitions of two databases whose schema was moved.
type watched struct {
	t              *testing.T
	d              *definitions
	source, target *pgx.Conn
	sourceDSN      pg.DSN
}

func newWatched(t *testing.T, sql string) *watched {
	t.Helper()
	ctx := context.Background()
	w := &watched{t: t, sourceDSN: pgtest.Database(t, pgtest.Shared(t, pgtest.Source))}
	targetDSN := pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
	w.source, w.target = pgtest.Conn(t, w.sourceDSN), pgtest.Conn(t, targetDSN, pg.WithKey("k"))
	pgtest.Exec(t, w.source, sql)
	require.NoError(t, journal.InstallTarget(ctx, w.target, journal.TargetRun{RunID: "r", Key: "k", Mode: runs.ModeRun}))
	run, err := journal.LoadTarget(ctx, w.target)
	require.NoError(t, err)
	m := &migration{source: w.sourceDSN, target: targetDSN, id: runs.Identity{Target: run}, jobs: 1, lockTimeout: testLockTimeout, log: zerolog.Nop(),
		roles: map[string]string{w.sourceDSN.User(): targetDSN.User()}}
	held, err := snapshot.Export(ctx, m.connectSource)
	require.NoError(t, err)
	defer held.Close()
	kept, err := m.definitionsAt(ctx, held)
	require.NoError(t, err)
	kept.Archive, err = archive.Dump(ctx, m.dumping(w.sourceDSN, held.ID()))
	require.NoError(t, err)
	require.NoError(t, journal.KeepDefinitions(ctx, w.target, kept))
	m.id.Target, err = journal.LoadTarget(ctx, w.target)
	require.NoError(t, err)
	require.NoError(t, m.loadPlan(ctx, w.target, held))
	require.NoError(t, m.restore(ctx, plan.PreData, []*pgx.Conn{w.target}))
	require.NoError(t, m.restore(ctx, plan.AfterCopy, []*pgx.Conn{w.target}))
	linked := func(d pg.DSN, opts ...pg.Option) *dbconn.Link {
		l := dbconn.New(d, opts...)
		t.Cleanup(l.Close)
		return l
	}
	w.d = newDefinitions(m, linked(w.sourceDSN), linked(targetDSN, pg.WithKey("k")), [2]*dbconn.Link{linked(w.sourceDSN), linked(targetDSN)}, zerolog.Nop())
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.d.run(running) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return w
}

// told is what a question finds.
func (w *watched) told(ask func(context.Context, *pgx.Conn, *pgx.Conn) ([]watch.Notice, error)) []string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	found, err := ask(ctx, w.source, w.target)
	require.NoError(w.t, err)
	var out []string
	for _, n := range found {
		out = append(out, n.Code+": "+n.Detail)
	}
	return out
}

const watchedTables = `CREATE TABLE public.a (id int PRIMARY KEY, v text, w text); CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`

// A change after the arming is no part of the decision that was rehearsed, even one
// that needs nobody's hand.
func TestDefinitionsUnderTheFenceAreThoseThatWereCompared(t *testing.T) {
	t.Parallel()
	w := newWatched(t, watchedTables)
	require.Empty(t, w.told(w.d.ask))
	require.Empty(t, w.told(w.d.askFenced))
	pgtest.Exec(t, w.source, "TRUNCATE public.a")
	require.Empty(t, w.told(w.d.askFenced))
	pgtest.Exec(t, w.source, "ALTER TABLE public.a ENABLE ROW LEVEL SECURITY")
	require.Equal(t, []string{"definition_differs: definitions were changed on the source a moment ago (pg_class)"}, w.told(w.d.askFenced))
	require.Empty(t, w.told(w.d.ask), "the next attempt takes it over")
	require.Empty(t, w.told(w.d.askFenced))
	pgtest.Exec(t, w.target, "CREATE INDEX ON public.a (v)")
	require.Contains(t, w.told(w.d.askFenced)[0], "changed on the target a moment ago")
	require.Contains(t, w.told(w.d.ask)[0], "the target is not as the source: index public.a_v_idx is there in addition")
}

// What belongs to the decision comes from the newest archive, and so it does after a
// restart, whose numbers in crossfade.item are the first archive's.
func TestTheDecisionIsMadeFromTheNewestArchive(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWatched(t, watchedTables)
	require.Empty(t, w.told(w.d.ask))
	pgtest.Exec(t, w.source, "CREATE TRIGGER g BEFORE INSERT ON public.a FOR EACH ROW EXECUTE FUNCTION public.f(); ALTER TABLE public.a ENABLE ROW LEVEL SECURITY; ALTER TABLE public.a DISABLE TRIGGER g")
	pgtest.Exec(t, w.source, "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
	require.Empty(t, w.told(w.d.ask))
	run, err := journal.LoadTarget(ctx, w.target)
	require.NoError(t, err)
	again := &migration{source: w.d.migration.source, target: w.d.migration.target, id: runs.Identity{Target: run}, jobs: 1, roles: w.d.migration.roles, log: zerolog.Nop()}
	require.NoError(t, again.loadPlan(ctx, w.target, nil))
	for _, m := range []*migration{w.d.migration, again} {
		sql, err := m.decisionSQL()
		require.NoError(t, err)
		pgtest.Exec(t, w.target, "BEGIN")
		require.NoError(t, restore.Run(ctx, w.target, sql.Decide))
		require.Equal(t, "D true", pgtest.Value(t, w.target, `SELECT tgenabled::text || ' ' || relrowsecurity FROM pg_trigger g JOIN pg_class c ON c.oid = tgrelid WHERE tgname = 'g'`))
		pgtest.Exec(t, w.target, "ROLLBACK")
	}
	require.NoError(t, again.restore(ctx, plan.Last, []*pgx.Conn{w.target}))
	require.Equal(t, "1", pgtest.Value(t, w.target, `SELECT count(*) FROM pg_default_acl d JOIN pg_roles r ON r.oid = defaclrole WHERE rolname = current_user AND defaclobjtype = 'f'`))
}

// What rows are is asked of both sides, and what was found harmless is kept.
func TestRowsThatMayDifferAreTold(t *testing.T) {
	t.Parallel()
	w := newWatched(t, watchedTables+`; CREATE TABLE public.b (id int PRIMARY KEY, v text); CREATE TABLE public.c (id int PRIMARY KEY, v text); CREATE TABLE public.e (id int PRIMARY KEY, v text)`)
	require.Empty(t, w.told(w.d.ask))
	pgtest.Exec(t, w.source, "ALTER TABLE public.b ADD x int DEFAULT 5; ALTER TABLE public.c ADD x int DEFAULT 5")
	require.Len(t, w.told(w.d.ask), 2)
	pgtest.Exec(t, w.target, "ALTER TABLE public.b ADD x int; ALTER TABLE public.b ALTER x SET DEFAULT 5; ALTER TABLE public.c ADD x int DEFAULT 5")
	require.Equal(t, []string{"rows_not_provable: rows of table public.b may differ from the source's: column x was added, and rows that were there before it have 5 on the source and NULL on the target"}, w.told(w.d.ask))
	pgtest.Exec(t, w.target, "DROP TABLE public.e; CREATE TABLE public.e (id int PRIMARY KEY, v text)")
	require.Contains(t, w.told(w.d.ask), "rows_not_provable: rows of table public.e may differ from the source's: it was dropped and made again on the target")
	pgtest.Exec(t, w.source, "ALTER TABLE public.a ALTER v TYPE text USING upper(v)")
	require.Contains(t, w.told(w.d.ask)[0], "rows of table public.a may differ from the source's: column v was altered")

	w.d.rows = rowIdentities{} // as after a restart
	w.d.known = false
	require.Len(t, w.told(w.d.ask), 3)
}

// The statement that is told for a column with a default that changes from one moment to the
// next gives the rows that are there what the source's have.
func TestTheStatementForAnAddedColumnKeepsTheRowsEqual(t *testing.T) {
	t.Parallel()
	w := newWatched(t, watchedTables)
	require.Empty(t, w.told(w.d.ask))
	pgtest.Exec(t, w.source, "INSERT INTO public.a (id) VALUES (1); ALTER TABLE public.a ADD made timestamptz NOT NULL DEFAULT now(), ADD who text DEFAULT current_user || ' (''x'')', "+
		"ADD n int NOT NULL DEFAULT 5, ADD tags text[] DEFAULT ARRAY['a', 'b c'], ADD \"Odd\" date DEFAULT CURRENT_DATE - 3")
	found, err := w.d.ask(context.Background(), w.source, w.target)
	require.NoError(t, err)
	require.Len(t, found, 5)
	for _, n := range found {
		typed(t, w.target, n.Remedy, "target")
	}
	require.Empty(t, w.told(w.d.ask))
}

// pg_dump of a schema that is followed gives way to whoever waits for its locks.
func TestADumpWhileFollowingGivesWay(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWatched(t, watchedTables+`; CREATE TABLE public.z (id int PRIMARY KEY)`)
	require.Empty(t, w.told(w.d.ask))
	blocker, app := pgtest.Conn(t, w.sourceDSN), pgtest.Conn(t, w.sourceDSN)
	pgtest.Exec(t, w.source, "ALTER TABLE public.a ENABLE ROW LEVEL SECURITY")
	pgtest.Exec(t, blocker, "BEGIN; LOCK TABLE public.z IN ACCESS EXCLUSIVE MODE") // pg_dump waits here, with the lock of public.a
	asked := make(chan error, 1)
	go func() {
		asked <- w.d.source.Do(ctx, func(ctx context.Context, _ *pgx.Conn) error {
			_, err := w.d.dump(ctx, w.sourceDSN, w.d.waiting[0])
			return err
		})
	}()
	require.Eventually(t, func() bool {
		return pgtest.Value(t, w.source, `SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name LIKE 'crossfade dump%' AND a.datname = current_database() AND NOT l.granted`) == "1"
	}, pgtest.Timeout, 20*time.Millisecond)
	pgtest.Exec(t, app, "SET lock_timeout = '20s'; TRUNCATE public.a") // gets its lock
	require.ErrorIs(t, <-asked, errGaveWay)
	pgtest.Exec(t, blocker, "ROLLBACK")
	require.Empty(t, w.told(w.d.ask))
}

// What is followed does not wait for the pg_dump of the target either.
func TestADumpOfTheTargetGivesWay(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWatched(t, watchedTables+`; CREATE TABLE public.z (id int PRIMARY KEY)`)
	require.Empty(t, w.told(w.d.ask))
	targetDSN := w.d.migration.target
	blocker, applier, looks := pgtest.Conn(t, targetDSN), pgtest.Conn(t, targetDSN, pg.WithKey("k")), pgtest.Conn(t, targetDSN)
	pgtest.Exec(t, w.source, "ALTER TABLE public.a ENABLE ROW LEVEL SECURITY; ALTER TABLE public.a ADD x int")
	pgtest.Exec(t, blocker, "BEGIN; LOCK TABLE public.z IN ACCESS EXCLUSIVE MODE") // pg_dump waits here, with the lock of public.a
	asked := make(chan []watch.Notice, 1)
	go func() {
		found, _ := w.d.ask(ctx, w.source, w.target)
		asked <- found
	}()
	require.Eventually(t, func() bool {
		return pgtest.Value(t, looks, `SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name LIKE 'crossfade dump%' AND a.datname = current_database() AND NOT l.granted`) == "1"
	}, pgtest.Timeout, 20*time.Millisecond)
	pgtest.Exec(t, applier, "SET lock_timeout = '20s'; TRUNCATE public.a") // gets its lock
	found := <-asked
	require.Len(t, found, 1)
	require.Equal(t, "definitions_compared", found[0].Code)
	require.Contains(t, found[0].Detail, errGaveWay.Error())
	pgtest.Exec(t, blocker, "ROLLBACK")
	require.Contains(t, w.told(w.d.ask)[0], "definition_differs")
}

// A role that the target has too must be as the source's is by now.
func TestChangedRolesAreTold(t *testing.T) {
	t.Parallel()
	w := newWatched(t, watchedTables)
	require.Empty(t, w.told(w.d.ask))
	name := w.sourceDSN.Database() + "_r"
	super := pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(w.sourceDSN.Database()))
	other := pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN("postgres"))
	pgtest.Exec(t, super, "CREATE ROLE "+name+" LOGIN; GRANT CONNECT ON DATABASE "+w.sourceDSN.Database()+" TO "+name)
	pgtest.Exec(t, other, "CREATE ROLE "+name)
	t.Cleanup(func() {
		pgtest.Exec(t, super, "DROP OWNED BY "+name+"; DROP ROLE "+name)
		pgtest.Exec(t, other, "DROP ROLE "+name)
	})
	roles, err := roles.Read(context.Background(), super)
	require.NoError(t, err)
	text, err := json.Marshal(roles.WithoutValues())
	require.NoError(t, err)
	w.d.migration.id.Target.Roles = string(text)
	require.Empty(t, w.told(w.d.ask))
	pgtest.Exec(t, super, "ALTER ROLE "+name+" BYPASSRLS")
	said := "role_differs: ROLE " + name + ": attribute is now on the source: BYPASSRLS; on the target: NOBYPASSRLS"
	require.Equal(t, []string{said}, w.told(w.d.askFenced))
	found, err := w.d.ask(t.Context(), w.source, w.target)
	require.NoError(t, err)
	n := once(t, found, "role_differs", "told once")
	require.Equal(t, said, n.Code+": "+n.Detail)
	typed(t, other, n.Remedy, "target")
	require.Empty(t, w.told(w.d.ask))
}

// A comparison that had begun before a change knows nothing of it, though it ends after the question.
func TestAComparisonOfBeforeAChangeIsNoAnswer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWatched(t, watchedTables)
	require.Empty(t, w.told(w.d.ask))
	by := newDefinitions(w.d.migration, w.d.source, w.d.target, w.d.waiting, zerolog.Nop()) // whose comparisons the test makes
	by.seen, by.known, by.found = w.d.seen, true, w.d.found
	began := &comparison{done: make(chan struct{})}
	by.current = began
	pgtest.Exec(t, w.target, "CREATE INDEX ON public.a (v)")
	told := make(chan []string, 1)
	go func() { told <- w.told(by.ask) }()
	close(began.done) // it has compared both sides as they were
	select {
	case c := <-by.jobs:
		c.err = by.compareInTime(ctx)
		close(c.done)
	case early := <-told:
		t.Fatalf("answered by what was compared before the change: %q", early)
	}
	require.Equal(t, []string{"definition_differs: the target is not as the source: index public.a_v_idx is there in addition"}, <-told)
}

// A schema that cannot be compared within the bound gets more time, until it can.
func TestAComparisonThatWasNotDoneInTimeGetsMore(t *testing.T) {
	t.Parallel()
	w := newWatched(t, watchedTables)
	require.Empty(t, w.told(w.d.ask))
	w.d.mu.Lock()
	w.d.bound = 2 * time.Millisecond
	w.d.mu.Unlock()
	pgtest.Exec(t, w.source, "ALTER TABLE public.a ENABLE ROW LEVEL SECURITY; ALTER TABLE public.a ADD x int")
	said := w.told(w.d.ask)
	require.Len(t, said, 1)
	require.Contains(t, said[0], "definitions_compared: ")
	require.Contains(t, said[0], "it was not done within 2ms, and the next one has 4ms")
	require.Eventually(t, func() bool { return strings.HasPrefix(w.told(w.d.ask)[0], "definition_differs: ") }, pgtest.Timeout, time.Millisecond)
	pgtest.Exec(t, w.source, "ALTER TABLE public.a DROP x")
	w.d.mu.Lock()
	had := w.d.bound
	w.d.mu.Unlock()
	require.Greater(t, had, 2*time.Millisecond)
	require.Eventually(t, func() bool { return len(w.told(w.d.ask)) == 0 }, pgtest.Timeout, time.Millisecond) // on a busy machine it may need more still
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	require.GreaterOrEqual(t, w.d.bound, had, "it has the time that it needs from now on")
}

// As long as a comparison fails for what passes by itself, the answer before the change is none.
func TestWhatCouldNotBeComparedIsNotReady(t *testing.T) {
	t.Parallel()
	w := newWatched(t, watchedTables)
	require.Empty(t, w.told(w.d.ask))
	by := newDefinitions(w.d.migration, w.d.source, w.d.target, w.d.waiting, zerolog.Nop())
	by.seen, by.known, by.found = w.d.seen, true, w.d.found
	answer := func(err error) ([]watch.Notice, error) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c := <-by.jobs
			c.err = err
			close(c.done)
		}()
		defer func() { <-ended }()
		return by.ask(context.Background(), w.source, w.target)
	}
	truncated := by.seen
	truncated[0].Storage = "of other files"
	_, err := by.unfinished(context.Background(), truncated, context.DeadlineExceeded)
	require.ErrorIs(t, err, context.DeadlineExceeded, "no change that anybody made")
	for _, sql := range []string{"ALTER TABLE public.a ENABLE ROW LEVEL SECURITY", "ALTER TABLE public.a ADD x int"} {
		pgtest.Exec(t, w.source, sql)
		for _, passes := range []error{fmt.Errorf("%w: %w", errGaveWay, context.DeadlineExceeded), &pgconn.PgError{Code: pg.CodeLockNotAvailable}} {
			found, err := answer(passes)
			require.NoError(t, err)
			require.Len(t, found, 1)
			require.False(t, found[0].Warns)
			require.Equal(t, "definitions_compared", found[0].Code)
			require.Contains(t, found[0].Detail, passes.Error())
			require.Contains(t, found[0].Remedy, "by itself")
		}
		_, err := answer(&pgconn.PgError{Code: pg.CodeInsufficientPrivilege})
		require.Error(t, err, "that does not pass by itself, and is told as what it is")
	}
}

// What somebody changed on the target alone is told once, with the statement that takes it back.
func TestWhatWasChangedOnTheTargetAloneIsTakenBackAsPrinted(t *testing.T) {
	t.Parallel()
	w := newWatched(t, watchedTables+`; CREATE TABLE public."O dd" (id int PRIMARY KEY, v text CONSTRAINT "u ""q" UNIQUE); CREATE INDEX "my idx" ON public."O dd" (v);
		CREATE VIEW public.vw AS SELECT id, v FROM public.a; CREATE SEQUENCE public.sq; CREATE STATISTICS public.st ON v, w FROM public.a`)
	require.Empty(t, w.told(w.d.ask))
	for _, all := range [][]string{
		{"CREATE INDEX ON public.a (v)", `CREATE INDEX "an ""odd one" ON public.a (v)`, "CREATE TABLE public.mine (id serial PRIMARY KEY, v text UNIQUE)", "CREATE VIEW public.seen AS SELECT 1 AS one",
			"CREATE MATERIALIZED VIEW public.kept AS SELECT 1 AS one", "CREATE SEQUENCE public.numbers", "CREATE FUNCTION public.mine(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
			"CREATE TYPE public.words AS ENUM ('a')", "CREATE DOMAIN public.dom AS int", "CREATE POLICY mine ON public.a USING (true)", "ALTER TABLE public.a ADD COLUMN mine int",
			"ALTER TABLE public.a ADD CONSTRAINT mine CHECK (id > 0)", `ALTER TABLE public.a ADD CONSTRAINT "Mi ne" UNIQUE (v)`, "CREATE STATISTICS public.mine ON v, w FROM public.a", "CREATE SCHEMA mine"},
		{`DROP INDEX public."my idx"`, `ALTER TABLE public."O dd" DROP CONSTRAINT "u ""q"`, "DROP VIEW public.vw", "DROP SEQUENCE public.sq", "DROP STATISTICS public.st"},
		{"CREATE TABLE public.mine (id int PRIMARY KEY)"}, // under the name of one that was there
	} {
		for _, sql := range all {
			pgtest.Exec(t, w.target, sql)
		}
		found, err := w.d.ask(t.Context(), w.source, w.target)
		require.NoError(t, err)
		require.Len(t, found, len(all), "each is told once: %v", found)
		for _, n := range found {
			require.Equal(t, "definition_differs", n.Code)
			typed(t, w.target, n.Remedy, "target")
		}
		require.Empty(t, w.told(w.d.ask))
	}
}
