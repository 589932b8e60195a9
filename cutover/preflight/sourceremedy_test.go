package preflight

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/database"
	"crossfade/cutover/preflight/extension"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// What else acts on the source is told once, and its statement, typed as it is printed, removes it.
func TestWhatElseActsOnTheSourceIsRemovedAsItIsPrinted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	name := `"It's ` + f.SourceDSN.Database() + `"`
	own, role := strings.ToLower(f.SourceDSN.Database()), "SET ROLE "+f.SourceDSN.User()+"; "
	pgtest.Exec(t, f.Source, "CREATE TABLE t (id int PRIMARY KEY)")
	pgtest.Exec(t, f.SourceAdmin, "CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'")
	const neon = "ALTER DATABASE @ SET neon.endpoint_id = 'ep-x-1'"
	for _, x := range []situation{
		{code: "foreign_publication", source: "CREATE PUBLICATION " + name + " FOR TABLE t"},
		{code: "foreign_slot", source: "SELECT pg_create_logical_replication_slot('other_" + own + "', 'pgoutput')"},
		{code: "publication_of_all_tables", source: "CREATE PUBLICATION everything FOR ALL TABLES", also: []string{"foreign_publication"}, stays: true,
			change: []func(*inquiry.Options){func(o *inquiry.Options) { o.OwnTables = "CREATE TABLE crossfade.run (id int)" }}},
		{code: "event_trigger_not_allowed", source: "CREATE EVENT TRIGGER " + name + " ON ddl_command_end EXECUTE FUNCTION public.watch()"},
		{code: "backend_numbers", source: "CREATE FUNCTION public.kill(int) RETURNS bool LANGUAGE sql AS 'SELECT pg_terminate_backend($1)'", stays: true},
		{code: "extension_acts", source: "CREATE EXTENSION hstore; UPDATE pg_extension SET extname = 'pg_partman' WHERE extname = 'hstore'", also: []string{"extension_missing"}, stays: true},
		{code: "replica_identity_full", source: role + "CREATE TABLE public.whole (id int PRIMARY KEY); ALTER TABLE public.whole REPLICA IDENTITY FULL; RESET ROLE"},
		{code: "replica_identity_generated", source: role + "CREATE TABLE public.g (a int NOT NULL, b int NOT NULL GENERATED ALWAYS AS (a + 1) STORED, PRIMARY KEY (b)); RESET ROLE", left: []string{"replica_identity_full"}},
		{code: "large_objects", source: "SELECT lo_create(0)", stays: true},
	} {
		f.removes(t, x)
	}
	pgtest.Exec(t, f.TargetAdmin, strings.ReplaceAll(neon, "@", f.TargetDSN.Database()))
	f.removes(t, situation{code: "event_trigger", source: "CREATE EVENT TRIGGER " + name + " ON ddl_command_end EXECUTE FUNCTION public.watch()"})

	// Subscriptions. Both codes are told after each other of one, never at once.
	pgtest.Exec(t, f.SourceAdmin, "CREATE SUBSCRIPTION "+name+" CONNECTION 'host=nowhere' PUBLICATION x WITH (connect = false, slot_name = 'nowhere', enabled = false, create_slot = false)")
	t.Cleanup(func() {
		conn := pgtest.Shared(t, pgtest.Source).AdminDSN(f.SourceDSN.Database())
		admin, err := pg.Connect(context.Background(), conn)
		require.NoError(t, err)
		defer func() { _ = admin.Close(context.Background()) }()
		var left int
		require.NoError(t, admin.QueryRow(context.Background(), "SELECT count(*)::int FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&left))
		if left > 0 { // a test that has failed leaves it
			_, err = admin.Exec(context.Background(), "ALTER SUBSCRIPTION "+name+" DISABLE; ALTER SUBSCRIPTION "+name+" SET (slot_name = NONE); DROP SUBSCRIPTION "+name)
			require.NoError(t, err)
		}
	})
	neighbours := func() []answer.Finding {
		var found []answer.Finding
		for _, x := range f.whole(t) {
			if strings.HasSuffix(x.Code, "_subscription") {
				found = append(found, x)
			}
		}
		return found
	}
	found := neighbours()
	require.Equal(t, []string{"foreign_subscription"}, codesOf(found))
	pgtest.Exec(t, f.SourceAdmin, "ALTER SUBSCRIPTION "+name+" ENABLE")
	found = neighbours()
	require.Equal(t, []string{"active_subscription"}, codesOf(found), "once")
	require.Equal(t, answer.Blocker, found[0].Severity)
	f.Typed(t, found...)
	found = neighbours()
	require.Equal(t, []string{"foreign_subscription"}, codesOf(found), "the remedy helps, and it is still there")
	f.Typed(t, found...)
	require.Empty(t, neighbours(), "the remedy helps")
}

// Large objects are let through by the option that is printed; a run still warns, with what shows
// changes.
func TestLargeObjectsAreCopiedByTheOptionThatIsPrinted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	wanted := false
	option := func(o *inquiry.Options) { o.LargeObjects = wanted }
	f.removes(t, situation{code: "large_objects", source: "SELECT lo_create(0)", change: []func(*inquiry.Options){preflighttest.CopyMode, option}, typed: func(t *testing.T, found ...answer.Finding) {
		require.Contains(t, found[0].Remedy, "give --large-objects,")
		wanted = true
	}})
	found := f.Ask(t, database.LargeObjects, option)
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "large_objects", "pg_largeobject"}}, preflighttest.Short(found))
	pgtest.Exec(t, f.SourceAdmin, statement(t, found[0].Remedy, "GRANT SELECT"))
	require.Equal(t, "true", pgtest.Value(t, f.Source, "SELECT has_table_privilege('pg_largeobject', 'SELECT')"))
}

// drops removes a database of the target's cluster when the test ends.
func (f *fixture) drops(t *testing.T, database string) {
	t.Cleanup(func() { pgtest.DropMade(t, pgtest.Shared(t, pgtest.Target), database) })
}

// another makes the database that a remedy prints, and gives that one to --target.
func (f *fixture) another(t *testing.T, found ...answer.Finding) {
	t.Helper()
	sql := statement(t, found[0].Remedy, "CREATE DATABASE")
	pgtest.Exec(t, f.TargetAdmin, sql)
	f.TargetDSN = f.TargetDSN.WithDatabase(strings.Split(sql, `"`)[1])
}

func TestAnotherEncodingIsRemovedAsItIsPrinted(t *testing.T) {
	t.Parallel()
	for code, change := range map[string][]func(*inquiry.Options){"encoding_differs": nil, "encoding_converted": {preflighttest.CopyMode}} {
		f := newFixture(t)
		f.drops(t, f.TargetDSN.Database()+"_like_source")
		f.removes(t, situation{code: code, change: change, typed: f.another, arise: func(t *testing.T) { f.Encoded(t, "LATIN1") }})
	}
}

func TestBytesOfAnotherEncodingAreCorrectedAsItIsPrinted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Encoded(t, "SQL_ASCII")
	pgtest.Exec(t, f.Source, "CREATE TABLE word (id int PRIMARY KEY, w text); CREATE TABLE larger (w text); INSERT INTO larger SELECT repeat('x', 100) FROM generate_series(1, 300)")
	f.removes(t, situation{code: "encoding_invalid", change: []func(*inquiry.Options){preflighttest.CopyMode}, arise: func(t *testing.T) {
		pgtest.Exec(t, f.Source, `INSERT INTO word VALUES (7, convert_from('\xe9', 'SQL_ASCII'))`)
	}})

	// What takes too long is told once, for the first table that is left and all that are larger.
	found := beyond(f.whole(t, preflighttest.CopyMode, func(o *inquiry.Options) { o.ConvertFor = time.Nanosecond }), f.whole(t, preflighttest.CopyMode))
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "encoding_not_looked_at", "public.word"}}, preflighttest.Short(found))
	require.Contains(t, found[0].Detail, "nor those of 1 larger tables")
}

func TestAnotherCollationIsRemovedAsItIsPrinted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.Source, `CREATE TABLE "Word" (id int PRIMARY KEY, "W" varchar(7) COLLATE "POSIX")`)
	f.removes(t, situation{code: "collation_missing", target: "SET allow_system_table_mods = on; DELETE FROM pg_collation WHERE collname = 'POSIX'"})
	f.drops(t, f.TargetDSN.Database()+"_like_source")
	f.removes(t, situation{code: "collation_differs", target: "UPDATE pg_database SET datcollate = 'C.UTF-8' WHERE datname = current_database()", typed: f.another})
}

// A database of another encoding sorts otherwise as well: one statement makes the database that
// fits, and it is printed once.
func TestOneDatabaseIsPrintedForEncodingAndCollation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.TargetAdmin, "UPDATE pg_database SET datcollate = 'C.UTF-8', datctype = 'C.UTF-8' WHERE datname = current_database()")
	before := f.whole(t)
	f.drops(t, f.TargetDSN.Database()+"_like_source")
	f.Encoded(t, "LATIN1")
	found := f.whole(t)
	require.Contains(t, codesOf(found), "collation_differs")
	var printed []answer.Finding
	for _, x := range found {
		if strings.Contains(x.Remedy, "CREATE DATABASE") {
			printed = append(printed, x)
		}
	}
	require.Len(t, printed, 1)
	require.Equal(t, "encoding_differs", printed[0].Code)
	f.another(t, printed...)
	after := f.whole(t)
	require.NotContains(t, codesOf(after), "encoding_differs")
	require.NotContains(t, codesOf(after), "collation_differs")
	require.Contains(t, codesOf(before), "collation_differs")
}

func TestALockTableIsEnlargedAsItIsPrinted(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t, pgtest.Source, func(c *pgcluster.Config) {
		c.Settings = map[string]string{"wal_level": "logical", "max_connections": "30", "max_prepared_transactions": "0", "max_locks_per_transaction": "10"}
	})
	f := fixtureOn(t, c, pgtest.Shared(t, pgtest.Target))
	f.removes(t, situation{code: "lock_table_small", arise: func(t *testing.T) {
		pgtest.Exec(t, f.Source, "DO $$ BEGIN FOR i IN 1..160 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY)', i); COMMIT; END LOOP; END $$")
	}, typed: func(t *testing.T, found ...answer.Finding) {
		f.Typed(t, found...)
		require.NoError(t, c.Restart(t.Context(), pgcluster.Fast))
	}})
}

// Jobs that pg_cron keeps are told once, where there are any, and its statements remove what is
// told.
func TestJobsFindingsAreRemovedAsTheyArePrinted(t *testing.T) {
	t.Parallel()
	c := pgtest.Cron(t, pgtest.Source)
	f := fixtureOn(t, c, pgtest.Shared(t, pgtest.Target))
	admin, role := pgtest.Conn(t, c.AdminDSN(pgtest.CronDatabase)), pg.QuoteIdent(f.SourceDSN.User())
	pgtest.Exec(t, admin, "GRANT USAGE ON SCHEMA cron TO "+role+"; GRANT SELECT, UPDATE ON cron.job TO "+role+"; ALTER ROLE "+role+" BYPASSRLS; GRANT CREATE ON DATABASE "+pgtest.CronDatabase+" TO "+role)
	t.Cleanup(func() {
		conn, err := pg.Connect(context.Background(), c.AdminDSN(pgtest.CronDatabase))
		require.NoError(t, err)
		defer func() { _ = conn.Close(context.Background()) }()
		_, err = conn.Exec(context.Background(), "DROP OWNED BY "+role)
		require.NoError(t, err)
	})
	told := f.removes(t, situation{code: "jobs_elsewhere", arise: func(t *testing.T) {
		pgtest.Exec(t, admin, "SELECT cron.schedule_in_database('yearly', '0 0 1 1 *', 'SELECT 1', '"+f.SourceDSN.Database()+"')")
	}, typed: func(t *testing.T, found ...answer.Finding) {
		require.Contains(t, found[0].Remedy, "in database "+pgtest.CronDatabase+" of the source's server")
		pgtest.Exec(t, admin, statement(t, found[0].Remedy, "SELECT cron.unschedule"))
	}})
	require.Contains(t, told.Detail, "1 of them")

	f.SourceDSN, f.SourceAdmin = f.SourceDSN.WithDatabase(pgtest.CronDatabase), admin
	f.removes(t, situation{code: "jobs_not_moved", arise: func(t *testing.T) {
		pgtest.Exec(t, admin, "REVOKE UPDATE ON cron.job FROM "+role)
	}})
}

// A pg_cron that keeps its jobs in another database cannot be made in the target's, until its
// setting is changed as it is printed.
func TestAPgCronOfAnotherDatabaseIsSetAsItIsPrinted(t *testing.T) {
	t.Parallel()
	l := &limited{sourceServer: pgtest.Shared(t, pgtest.Source), targetServer: pgtest.Cron(t, pgtest.Target)}
	l.fixture = fixtureOn(t, l.sourceServer, l.targetServer)
	pgtest.Exec(t, l.SourceAdmin, `CREATE EXTENSION hstore; UPDATE pg_extension SET extname = 'pg_cron' WHERE extname = 'hstore'; CREATE SCHEMA cron; CREATE TABLE cron.job (jobid int PRIMARY KEY, username text);
		GRANT USAGE ON SCHEMA cron TO PUBLIC; GRANT SELECT, UPDATE ON cron.job TO PUBLIC`)
	pgtest.Exec(t, l.TargetAdmin, "ALTER SYSTEM SET cron.database_name = "+pg.QuoteLiteral(l.TargetDSN.Database()))
	l.again(t, answer.Target)
	made := func() error {
		_, err := l.TargetAdmin.Exec(t.Context(), "BEGIN; CREATE EXTENSION pg_cron; ROLLBACK")
		if err != nil {
			pgtest.Exec(t, l.TargetAdmin, "ROLLBACK")
		}
		return err
	}
	l.removes(t, situation{code: "pg_cron_database", arise: func(t *testing.T) {
		pgtest.Exec(t, l.TargetAdmin, "ALTER SYSTEM RESET cron.database_name")
		l.again(t, answer.Target)
		require.Error(t, made(), "it cannot")
	}, typed: l.then(nil)})
	require.NoError(t, made(), "now it can")
}

func TestABackgroundWorkerOfAnotherKindIsNamed(t *testing.T) {
	t.Parallel()
	c := pgtest.Cron(t, pgtest.Source)
	f := fixtureOn(t, c, pgtest.Shared(t, pgtest.Target))
	f.SourceDSN = c.AdminDSN(pgtest.CronDatabase)
	admin := pgtest.Conn(t, f.SourceDSN)
	require.Eventually(t, func() bool {
		return pgtest.Value(t, admin, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'pg_cron launcher'`) == "1"
	}, pgtest.Timeout, 50*time.Millisecond)
	require.Empty(t, f.Ask(t, extension.Workers), "what pg_cron does is known")
	before := f.whole(t)
	pgtest.Exec(t, admin, "DROP EXTENSION pg_cron")
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "background_worker", "pg_cron launcher"}}, preflighttest.Short(beyond(f.whole(t), before)), "once, of the whole list")
}
