package definitions_test

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

	"crossfade/internal/app/apptest"
	"crossfade/internal/app/definitions"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
	"crossfade/schema/roles"
)

// A change after the arming is no part of the decision that was rehearsed, even one
// that needs nobody's hand.
func TestDefinitionsUnderTheFenceAreThoseThatWereCompared(t *testing.T) {
	t.Parallel()
	w := apptest.NewWatched(t, apptest.WatchedTables)
	require.Empty(t, w.Told(w.Comparer.Ask))
	require.Empty(t, w.Told(w.Comparer.AskFenced))
	pgtest.Exec(t, w.Source, "TRUNCATE public.a")
	require.Empty(t, w.Told(w.Comparer.AskFenced))
	pgtest.Exec(t, w.Source, "ALTER TABLE public.a ENABLE ROW LEVEL SECURITY")
	require.Equal(t, []string{"definition_differs: definitions were changed on the source a moment ago (pg_class)"}, w.Told(w.Comparer.AskFenced))
	require.Empty(t, w.Told(w.Comparer.Ask), "the next attempt takes it over")
	require.Empty(t, w.Told(w.Comparer.AskFenced))
	pgtest.Exec(t, w.Target, "CREATE INDEX ON public.a (v)")
	require.Contains(t, w.Told(w.Comparer.AskFenced)[0], "changed on the target a moment ago")
	require.Contains(t, w.Told(w.Comparer.Ask)[0], "the target is not as the source: index public.a_v_idx is there in addition")
}

// What belongs to the decision comes from the newest archive, and so it does after a
// restart, whose numbers in crossfade.item are the first archive's.
func TestTheDecisionIsMadeFromTheNewestArchive(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := apptest.NewWatched(t, apptest.WatchedTables)
	require.Empty(t, w.Told(w.Comparer.Ask))
	pgtest.Exec(t, w.Source, "CREATE TRIGGER g BEFORE INSERT ON public.a FOR EACH ROW EXECUTE FUNCTION public.f(); ALTER TABLE public.a ENABLE ROW LEVEL SECURITY; ALTER TABLE public.a DISABLE TRIGGER g")
	pgtest.Exec(t, w.Source, "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
	require.Empty(t, w.Told(w.Comparer.Ask))
	run, err := journal.LoadTarget(ctx, w.Target)
	require.NoError(t, err)
	again := migration.New(migration.Config{Source: w.Comparer.Migration.Task.Source, Target: w.Comparer.Migration.Task.Target, Identity: runs.Identity{Target: run}, Jobs: 1, Roles: w.Comparer.Migration.Task.Roles, Log: zerolog.Nop()})
	require.NoError(t, again.Schema.LoadPlan(ctx, w.Target, nil))
	for _, m := range []*migration.Migration{w.Comparer.Migration, again} {
		sql, err := m.Schema.DecisionSQL()
		require.NoError(t, err)
		pgtest.Exec(t, w.Target, "BEGIN")
		require.NoError(t, restore.Run(ctx, w.Target, sql.Decide))
		require.Equal(t, "D true", pgtest.Value(t, w.Target, `SELECT tgenabled::text || ' ' || relrowsecurity FROM pg_trigger g JOIN pg_class c ON c.oid = tgrelid WHERE tgname = 'g'`))
		pgtest.Exec(t, w.Target, "ROLLBACK")
	}
	require.NoError(t, again.Schema.Restore(ctx, plan.Last, []*pgx.Conn{w.Target}))
	require.Equal(t, "1", pgtest.Value(t, w.Target, `SELECT count(*) FROM pg_default_acl d JOIN pg_roles r ON r.oid = defaclrole WHERE rolname = current_user AND defaclobjtype = 'f'`))
}

// What rows are is asked of both sides, and what was found harmless is kept.
func TestRowsThatMayDifferAreTold(t *testing.T) {
	t.Parallel()
	w := apptest.NewWatched(t, apptest.WatchedTables+`; CREATE TABLE public.b (id int PRIMARY KEY, v text); CREATE TABLE public.c (id int PRIMARY KEY, v text); CREATE TABLE public.e (id int PRIMARY KEY, v text)`)
	require.Empty(t, w.Told(w.Comparer.Ask))
	pgtest.Exec(t, w.Source, "ALTER TABLE public.b ADD x int DEFAULT 5; ALTER TABLE public.c ADD x int DEFAULT 5")
	require.Len(t, w.Told(w.Comparer.Ask), 2)
	pgtest.Exec(t, w.Target, "ALTER TABLE public.b ADD x int; ALTER TABLE public.b ALTER x SET DEFAULT 5; ALTER TABLE public.c ADD x int DEFAULT 5")
	require.Equal(t, []string{"rows_not_provable: rows of table public.b may differ from the source's: column x was added, and rows that were there before it have 5 on the source and NULL on the target"}, w.Told(w.Comparer.Ask))
	pgtest.Exec(t, w.Target, "DROP TABLE public.e; CREATE TABLE public.e (id int PRIMARY KEY, v text)")
	require.Contains(t, w.Told(w.Comparer.Ask), "rows_not_provable: rows of table public.e may differ from the source's: it was dropped and made again on the target")
	pgtest.Exec(t, w.Source, "ALTER TABLE public.a ALTER v TYPE text USING upper(v)")
	require.Contains(t, w.Told(w.Comparer.Ask)[0], "rows of table public.a may differ from the source's: column v was altered")

	w.Comparer.Restarted()
	require.Len(t, w.Told(w.Comparer.Ask), 3)
}

// The statement that is told for a column with a default that changes from one moment to the
// next gives the rows that are there what the source's have.
func TestTheStatementForAnAddedColumnKeepsTheRowsEqual(t *testing.T) {
	t.Parallel()
	w := apptest.NewWatched(t, apptest.WatchedTables)
	require.Empty(t, w.Told(w.Comparer.Ask))
	pgtest.Exec(t, w.Source, "INSERT INTO public.a (id) VALUES (1); ALTER TABLE public.a ADD made timestamptz NOT NULL DEFAULT now(), ADD who text DEFAULT current_user || ' (''x'')', "+
		"ADD n int NOT NULL DEFAULT 5, ADD tags text[] DEFAULT ARRAY['a', 'b c'], ADD \"Odd\" date DEFAULT CURRENT_DATE - 3")
	found, err := w.Comparer.Ask(context.Background(), w.Source, w.Target)
	require.NoError(t, err)
	require.Len(t, found, 5)
	for _, n := range found {
		apptest.Typed(t, w.Target, n.Remedy, "target")
	}
	require.Empty(t, w.Told(w.Comparer.Ask))
}

// pg_dump of a schema that is followed gives way to any session that waits for its locks.
func TestADumpWhileFollowingGivesWay(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := apptest.NewWatched(t, apptest.WatchedTables+`; CREATE TABLE public.z (id int PRIMARY KEY)`)
	require.Empty(t, w.Told(w.Comparer.Ask))
	blocker, app := pgtest.Conn(t, w.SourceDSN), pgtest.Conn(t, w.SourceDSN)
	pgtest.Exec(t, w.Source, "ALTER TABLE public.a ENABLE ROW LEVEL SECURITY")
	pgtest.Exec(t, blocker, "BEGIN; LOCK TABLE public.z IN ACCESS EXCLUSIVE MODE") // pg_dump waits here, with the lock of public.a
	asked := make(chan error, 1)
	go func() {
		asked <- w.Comparer.Source.Do(ctx, func(ctx context.Context, _ *pgx.Conn) error {
			_, err := w.Comparer.Dump(ctx, w.SourceDSN, w.Comparer.Waiting[0])
			return err
		})
	}()
	require.Eventually(t, func() bool {
		return pgtest.Value(t, w.Source, `SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name LIKE 'crossfade dump%' AND a.datname = current_database() AND NOT l.granted`) == "1"
	}, pgtest.Timeout, 20*time.Millisecond)
	pgtest.Exec(t, app, "SET lock_timeout = '20s'; TRUNCATE public.a") // gets its lock
	require.ErrorIs(t, <-asked, definitions.ErrGaveWay)
	pgtest.Exec(t, blocker, "ROLLBACK")
	require.Empty(t, w.Told(w.Comparer.Ask))
}

// What is followed does not wait for the pg_dump of the target either.
func TestADumpOfTheTargetGivesWay(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := apptest.NewWatched(t, apptest.WatchedTables+`; CREATE TABLE public.z (id int PRIMARY KEY)`)
	require.Empty(t, w.Told(w.Comparer.Ask))
	TargetDSN := w.Comparer.Migration.Task.Target
	blocker, applier, looks := pgtest.Conn(t, TargetDSN), pgtest.Conn(t, TargetDSN, pg.WithKey("k")), pgtest.Conn(t, TargetDSN)
	pgtest.Exec(t, w.Source, "ALTER TABLE public.a ENABLE ROW LEVEL SECURITY; ALTER TABLE public.a ADD x int")
	pgtest.Exec(t, blocker, "BEGIN; LOCK TABLE public.z IN ACCESS EXCLUSIVE MODE") // pg_dump waits here, with the lock of public.a
	asked := make(chan []watch.Notice, 1)
	go func() {
		found, _ := w.Comparer.Ask(ctx, w.Source, w.Target)
		asked <- found
	}()
	require.Eventually(t, func() bool {
		return pgtest.Value(t, looks, `SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name LIKE 'crossfade dump%' AND a.datname = current_database() AND NOT l.granted`) == "1"
	}, pgtest.Timeout, 20*time.Millisecond)
	pgtest.Exec(t, applier, "SET lock_timeout = '20s'; TRUNCATE public.a") // gets its lock
	found := <-asked
	require.Len(t, found, 1)
	require.Equal(t, "definitions_compared", found[0].Code)
	require.Contains(t, found[0].Detail, definitions.ErrGaveWay.Error())
	pgtest.Exec(t, blocker, "ROLLBACK")
	require.Contains(t, w.Told(w.Comparer.Ask)[0], "definition_differs")
}

// A role that the target has too must be as the source's is by now.
func TestChangedRolesAreTold(t *testing.T) {
	t.Parallel()
	w := apptest.NewWatched(t, apptest.WatchedTables)
	require.Empty(t, w.Told(w.Comparer.Ask))
	name := w.SourceDSN.Database() + "_r"
	super := pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(w.SourceDSN.Database()))
	other := pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN("postgres"))
	pgtest.Exec(t, super, "CREATE ROLE "+name+" LOGIN; GRANT CONNECT ON DATABASE "+w.SourceDSN.Database()+" TO "+name)
	pgtest.Exec(t, other, "CREATE ROLE "+name)
	t.Cleanup(func() {
		pgtest.Exec(t, super, "DROP OWNED BY "+name+"; DROP ROLE "+name)
		pgtest.Exec(t, other, "DROP ROLE "+name)
	})
	roles, err := roles.Read(context.Background(), super)
	require.NoError(t, err)
	text, err := json.Marshal(roles.WithoutValues())
	require.NoError(t, err)
	w.Comparer.Migration.Task.Identity.Target.Roles = string(text)
	require.Empty(t, w.Told(w.Comparer.Ask))
	pgtest.Exec(t, super, "ALTER ROLE "+name+" BYPASSRLS")
	said := "role_differs: ROLE " + name + ": attribute is now on the source: BYPASSRLS; on the target: NOBYPASSRLS"
	require.Equal(t, []string{said}, w.Told(w.Comparer.AskFenced))
	found, err := w.Comparer.Ask(t.Context(), w.Source, w.Target)
	require.NoError(t, err)
	n := apptest.Once(t, found, "role_differs", "told once")
	require.Equal(t, said, n.Code+": "+n.Detail)
	apptest.Typed(t, other, n.Remedy, "target")
	require.Empty(t, w.Told(w.Comparer.Ask))
}

// A comparison that had begun before a change knows nothing of it, though it ends after the
// question.
func TestAComparisonOfBeforeAChangeIsNoAnswer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := apptest.NewWatched(t, apptest.WatchedTables)
	require.Empty(t, w.Told(w.Comparer.Ask))
	by := w.Comparer.Another() // whose comparisons the test makes
	by.After(w.Comparer)
	end := by.Begin()
	pgtest.Exec(t, w.Target, "CREATE INDEX ON public.a (v)")
	told := make(chan []string, 1)
	go func() { told <- w.Told(by.Ask) }()
	end() // it has compared both sides as they were
	select {
	case c := <-by.Asked():
		c.End(by.CompareInTime(ctx))
	case early := <-told:
		t.Fatalf("answered by what was compared before the change: %q", early)
	}
	require.Equal(t, []string{"definition_differs: the target is not as the source: index public.a_v_idx is there in addition"}, <-told)
}

// A schema that cannot be compared within the bound gets more time, until it can.
func TestAComparisonThatWasNotDoneInTimeGetsMore(t *testing.T) {
	t.Parallel()
	w := apptest.NewWatched(t, apptest.WatchedTables)
	require.Empty(t, w.Told(w.Comparer.Ask))
	w.Comparer.SetBound(2 * time.Millisecond)
	pgtest.Exec(t, w.Source, "ALTER TABLE public.a ENABLE ROW LEVEL SECURITY; ALTER TABLE public.a ADD x int")
	said := w.Told(w.Comparer.Ask)
	require.Len(t, said, 1)
	require.Contains(t, said[0], "definitions_compared: ")
	require.Contains(t, said[0], "it was not done within 2ms, and the next one has 4ms")
	require.Eventually(t, func() bool { return strings.HasPrefix(w.Told(w.Comparer.Ask)[0], "definition_differs: ") }, pgtest.Timeout, time.Millisecond)
	pgtest.Exec(t, w.Source, "ALTER TABLE public.a DROP x")
	had := w.Comparer.Bound()
	require.Greater(t, had, 2*time.Millisecond)
	require.Eventually(t, func() bool { return len(w.Told(w.Comparer.Ask)) == 0 }, pgtest.Timeout, time.Millisecond) // on a busy machine it may need more still
	require.GreaterOrEqual(t, w.Comparer.Bound(), had, "it has the time that it needs from now on")
}

// As long as a comparison fails for what passes by itself, the answer before the change is none.
func TestWhatCouldNotBeComparedIsNotReady(t *testing.T) {
	t.Parallel()
	w := apptest.NewWatched(t, apptest.WatchedTables)
	require.Empty(t, w.Told(w.Comparer.Ask))
	by := w.Comparer.Another()
	by.After(w.Comparer)
	answer := func(err error) ([]watch.Notice, error) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c := <-by.Asked()
			c.End(err)
		}()
		defer func() { <-ended }()
		return by.Ask(context.Background(), w.Source, w.Target)
	}
	_, err := by.UnfinishedAfterTruncate(context.Background(), context.DeadlineExceeded)
	require.ErrorIs(t, err, context.DeadlineExceeded, "no change that anybody made")
	for _, sql := range []string{"ALTER TABLE public.a ENABLE ROW LEVEL SECURITY", "ALTER TABLE public.a ADD x int"} {
		pgtest.Exec(t, w.Source, sql)
		for _, passes := range []error{fmt.Errorf("%w: %w", definitions.ErrGaveWay, context.DeadlineExceeded), &pgconn.PgError{Code: pg.CodeLockNotAvailable}} {
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

// What someone changed on the target alone is told once, with the statement that takes it back.
func TestWhatWasChangedOnTheTargetAloneIsTakenBackAsPrinted(t *testing.T) {
	t.Parallel()
	w := apptest.NewWatched(t, apptest.WatchedTables+`; CREATE TABLE public."O dd" (id int PRIMARY KEY, v text CONSTRAINT "u ""q" UNIQUE); CREATE INDEX "my idx" ON public."O dd" (v);
		CREATE VIEW public.vw AS SELECT id, v FROM public.a; CREATE SEQUENCE public.sq; CREATE STATISTICS public.st ON v, w FROM public.a`)
	require.Empty(t, w.Told(w.Comparer.Ask))
	for _, all := range [][]string{
		{"CREATE INDEX ON public.a (v)", `CREATE INDEX "an ""odd one" ON public.a (v)`, "CREATE TABLE public.mine (id serial PRIMARY KEY, v text UNIQUE)", "CREATE VIEW public.seen AS SELECT 1 AS one",
			"CREATE MATERIALIZED VIEW public.kept AS SELECT 1 AS one", "CREATE SEQUENCE public.numbers", "CREATE FUNCTION public.mine(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
			"CREATE TYPE public.words AS ENUM ('a')", "CREATE DOMAIN public.dom AS int", "CREATE POLICY mine ON public.a USING (true)", "ALTER TABLE public.a ADD COLUMN mine int",
			"ALTER TABLE public.a ADD CONSTRAINT mine CHECK (id > 0)", `ALTER TABLE public.a ADD CONSTRAINT "Mi ne" UNIQUE (v)`, "CREATE STATISTICS public.mine ON v, w FROM public.a", "CREATE SCHEMA mine"},
		{`DROP INDEX public."my idx"`, `ALTER TABLE public."O dd" DROP CONSTRAINT "u ""q"`, "DROP VIEW public.vw", "DROP SEQUENCE public.sq", "DROP STATISTICS public.st"},
		{"CREATE TABLE public.mine (id int PRIMARY KEY)"}, // under the name of one that was there
	} {
		for _, sql := range all {
			pgtest.Exec(t, w.Target, sql)
		}
		found, err := w.Comparer.Ask(t.Context(), w.Source, w.Target)
		require.NoError(t, err)
		require.Len(t, found, len(all), "each is told once: %v", found)
		for _, n := range found {
			require.Equal(t, "definition_differs", n.Code)
			apptest.Typed(t, w.Target, n.Remedy, "target")
		}
		require.Empty(t, w.Told(w.Comparer.Ask))
	}
}
