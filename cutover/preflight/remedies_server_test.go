package preflight

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/cutover/preflight/server"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// What is about roles, schemas and what is in a database.
func TestWhatIsToldOfADatabaseGoesWithItsRemedy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	source, target := f.SourceDSN.User(), f.TargetDSN.User()
	own := "SET ROLE " + source + "; "
	name := "named_" + source
	pgtest.Exec(t, f.SourceAdmin, "CREATE ROLE "+name)
	t.Cleanup(func() {
		pgtest.DropRole(t, pgtest.Shared(t, pgtest.Source), f.SourceDSN.Database(), name)
		pgtest.DropRole(t, pgtest.Shared(t, pgtest.Target), f.TargetDSN.Database(), name)
	})
	pgtest.Exec(t, f.SourceAdmin, `CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere; GRANT USAGE ON FOREIGN SERVER far TO `+source+`; CREATE TYPE public.mood AS ENUM ('sad');
		CREATE EXTENSION hstore; CREATE SCHEMA pgmq; CREATE TABLE pgmq.q_mail (id int PRIMARY KEY); GRANT ALL ON SCHEMA pgmq TO PUBLIC; ALTER TABLE pgmq.q_mail OWNER TO `+source+`; UPDATE pg_extension SET extname = 'pgmq' WHERE extname = 'hstore'`)
	hash := func(name string) string {
		return own + "CREATE TABLE public." + name + " (id int, m public.mood, PRIMARY KEY (id, m)) PARTITION BY HASH (m); CREATE TABLE public." + name + "_0 PARTITION OF public." + name + " FOR VALUES WITH (MODULUS 2, REMAINDER 0); "
	}
	for _, x := range []situation{
		{code: "no_createrole", target: "ALTER ROLE " + target + " NOCREATEROLE"},
		{code: "no_createrole", target: "ALTER ROLE " + target + " NOCREATEROLE", change: []func(*inquiry.Options){preflighttest.CopyMode, options["--roles"]}},
		{code: "role_missing", source: own + "CREATE TABLE public.granted (id int PRIMARY KEY); GRANT SELECT ON public.granted TO " + name + "; RESET ROLE", change: []func(*inquiry.Options){preflighttest.CopyMode}},
		{code: "schema_not_writable", source: own + "CREATE SCHEMA app CREATE TABLE t (id int PRIMARY KEY); RESET ROLE", target: "CREATE SCHEMA app"},
		{code: "schema_not_usable", source: "CREATE SCHEMA counts; CREATE SEQUENCE counts.a; CREATE SEQUENCE counts.b; GRANT SELECT ON ALL SEQUENCES IN SCHEMA counts TO " + source},
		{code: "schema_not_usable", source: "CREATE SCHEMA closed; CREATE TABLE closed.a (id int PRIMARY KEY); CREATE TABLE closed.b (id int PRIMARY KEY); GRANT SELECT ON ALL TABLES IN SCHEMA closed TO " + source, change: []func(*inquiry.Options){preflighttest.CopyMode}},
		{code: "table_not_readable", source: "CREATE TABLE public.unread (id int PRIMARY KEY)", change: []func(*inquiry.Options){preflighttest.CopyMode}},
		{code: "matview_not_compared", source: "CREATE SCHEMA other; CREATE MATERIALIZED VIEW other.hidden AS SELECT 1 AS one", left: []string{"matview"}},
		{code: "row_security", source: own + "CREATE TABLE public.forced (id int PRIMARY KEY); ALTER TABLE public.forced ENABLE ROW LEVEL SECURITY; ALTER TABLE public.forced FORCE ROW LEVEL SECURITY; RESET ROLE",
			target: "ALTER ROLE " + target + " BYPASSRLS", left: []string{"login_loses"}},
		{code: "row_security", target: "ALTER ROLE " + target + " NOBYPASSRLS"},
		{code: "partition_foreign", source: own + "CREATE TABLE public.other (id int, m public.mood) PARTITION BY HASH (m); CREATE TABLE public.other_0 PARTITION OF public.other FOR VALUES WITH (MODULUS 2, REMAINDER 0); ALTER TABLE public.other_0 REPLICA IDENTITY FULL; " +
			"CREATE FOREIGN TABLE public.other_1 PARTITION OF public.other FOR VALUES WITH (MODULUS 2, REMAINDER 1) SERVER far; RESET ROLE", also: []string{"partitions_rerouted", "replica_identity_full"}},
		{code: "partition_unique", source: hash("tree") + "CREATE UNIQUE INDEX only_here ON public.tree_0 (id); RESET ROLE", also: []string{"partitions_rerouted"}, typed: typedIn(f.SourceAdmin, "on the source: (.*)")},
		{code: "partition_unique", source: own + `ALTER TABLE public.tree_0 ADD CONSTRAINT "Only here" UNIQUE (id); RESET ROLE`, typed: typedIn(f.SourceAdmin, "on the source: (.*)")},
		{code: "queue_not_followed", source: "ALTER EXTENSION pgmq ADD TABLE pgmq.q_mail", typed: typedIn(f.SourceAdmin, "ALTER EXTENSION .* DROP TABLE [^ ]*")},
		{code: "role_setting_differs", source: "ALTER DATABASE " + f.SourceDSN.Database() + " SET log_min_messages = 'debug1'", typed: f.asked},
		{code: "role_setting_differs", source: "ALTER ROLE " + source + " IN DATABASE " + f.SourceDSN.Database() + " SET app.tenant = 'it''s'", change: []func(*inquiry.Options){preflighttest.CopyMode}, typed: f.asked},
		{code: "role_setting_differs", source: "ALTER ROLE " + source + ` SET search_path = 'a=b', public, "$user"`, target: "ALTER ROLE " + target + " SET search_path = other", change: []func(*inquiry.Options){preflighttest.CopyMode}, typed: f.asked},
		{code: "target_not_empty", source: own + "CREATE TABLE public.here (id int PRIMARY KEY); RESET ROLE", target: "SET ROLE " + target + "; CREATE TABLE public.here (id int); RESET ROLE", change: []func(*inquiry.Options){preflighttest.CopyMode}, option: "--[a-z]+"},
	} {
		f.removes(t, x)
	}
}

// asked asks the source what a remedy has it asked, and types the answer on the target.
func (f *fixture) asked(t *testing.T, found ...answer.Finding) {
	t.Helper()
	for _, x := range found {
		pgtest.Exec(t, f.TargetAdmin, pgtest.Value(t, f.Source, printed(t, x.Remedy, "SELECT .*")))
	}
}

// limited is a pair of servers of the test's own, whose settings a remedy may change.
type limited struct {
	*fixture
	sourceServer, targetServer *pgcluster.Cluster
}

func newLimited(t *testing.T) *limited {
	t.Helper()
	l := &limited{sourceServer: pgtest.Own(t, pgtest.Source), targetServer: pgtest.Own(t, pgtest.Target)}
	l.fixture = fixtureOn(t, l.sourceServer, l.targetServer)
	return l
}

// again restarts one side's server, and opens the sessions that it ended.
func (l *limited) again(t *testing.T, side answer.Side) {
	t.Helper()
	c, dsn, conn, admin := l.sourceServer, l.SourceDSN, &l.Source, &l.SourceAdmin
	if side == answer.Target {
		c, dsn, conn, admin = l.targetServer, l.TargetDSN, &l.Target, &l.TargetAdmin
	}
	require.NoError(t, c.Restart(t.Context(), pgcluster.Fast))
	*conn, *admin = pgtest.Conn(t, dsn), pgtest.Conn(t, c.AdminDSN(dsn.Database()))
}

// then types a statement and what stands after it: a restart of the server, or its reload.
func (l *limited) then(more func(t *testing.T)) func(t *testing.T, found ...answer.Finding) {
	return func(t *testing.T, found ...answer.Finding) {
		t.Helper()
		x := found[0]
		l.Typed(t, x)
		admin := l.SourceAdmin
		if x.On == answer.Target {
			admin = l.TargetAdmin
		}
		switch printed(t, x.Remedy, "then (restart it|SELECT pg_reload_conf\\(\\))") {
		case "restart it":
			require.Contains(t, x.Remedy, "on the "+string(x.On))
			l.again(t, x.On)
		default:
			pgtest.Exec(t, admin, printed(t, x.Remedy, "SELECT pg_reload_conf\\(\\)"))
			l.reloaded(t, admin, printed(t, x.SQL, "SET ([a-z_]+)"), printed(t, x.SQL, "= (.*)"))
		}
		if more != nil {
			more(t)
		}
	}
}

// reloaded waits until a session has a setting's value of the file.
func (l *limited) reloaded(t *testing.T, conn *pgx.Conn, name, value string) {
	t.Helper()
	require.Eventually(t, func() bool { return pgtest.Value(t, conn, "SELECT current_setting($1)", name) == value }, pgtest.Timeout, 10*time.Millisecond)
}

// What is about a server is told of one that has it, and its setting is changed as it is printed.
func TestWhatIsToldOfAServerGoesWithItsRemedy(t *testing.T) {
	t.Parallel()
	l := newLimited(t)
	set := func(side answer.Side, setting string) func(t *testing.T) {
		return func(t *testing.T) {
			admin := l.SourceAdmin
			if side == answer.Target {
				admin = l.TargetAdmin
			}
			pgtest.Exec(t, admin, "ALTER SYSTEM SET "+setting)
			l.again(t, side)
		}
	}
	walsender := func(t *testing.T) {
		taken, err := pg.ConnectReplication(t.Context(), l.SourceDSN)
		require.NoError(t, err)
		t.Cleanup(func() { _ = taken.Close(context.Background()) })
	}
	fallback := []func(*inquiry.Options){func(o *inquiry.Options) { o.Fallback = true }}
	rows := []situation{
		{code: "wal_level", arise: set(answer.Source, "wal_level = replica"), typed: l.then(nil)},
		{code: "slot_wal_limited", typed: l.then(nil), arise: func(t *testing.T) {
			pgtest.Exec(t, l.SourceAdmin, "ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
			pgtest.Exec(t, l.SourceAdmin, "SELECT pg_reload_conf()")
			l.reloaded(t, l.SourceAdmin, "max_slot_wal_keep_size", "1GB")
		}},
		{code: "replication_slots_full", also: []string{"foreign_slot"}, typed: l.then(nil), arise: func(t *testing.T) {
			set(answer.Source, "max_replication_slots = 1")(t)
			pgtest.Exec(t, l.SourceAdmin, "SELECT pg_create_physical_replication_slot('standby')")
		}},
		{code: "wal_senders_full", typed: l.then(walsender), arise: func(t *testing.T) {
			set(answer.Source, "max_wal_senders = 1")(t)
			walsender(t)
		}},
		{code: "target_connections", typed: l.then(nil), arise: func(t *testing.T) {
			set(answer.Target, "max_connections = 10")(t)
			for range 6 {
				pgtest.Conn(t, l.SourceDSN, pg.WithParam("application_name", "shop"))
			}
		}},
		{code: "target_wal_level", change: fallback, arise: set(answer.Target, "wal_level = replica"), typed: l.then(nil)},
	}
	if preflighttest.Major(t) < 17 { // there is no such setting any more
		rows = append(rows, situation{code: "old_snapshot_threshold", arise: set(answer.Source, "old_snapshot_threshold = '60min'"), typed: l.then(nil)})
	}
	billing := func(t *testing.T, database, sql string) *pgx.Conn {
		conn := pgtest.Conn(t, l.sourceServer.AdminDSN(database), pg.WithParam("application_name", "billing"))
		pgtest.Exec(t, conn, "BEGIN; "+sql)
		return conn
	}
	rows = append(rows,
		situation{code: "long_transaction", change: []func(*inquiry.Options){preflighttest.AnyAge}, arise: func(t *testing.T) { billing(t, l.SourceDSN.Database(), "SELECT pg_current_xact_id()") }, typed: func(t *testing.T, found ...answer.Finding) {
			require.Contains(t, found[0].Detail, "the slot waits for it, and so would a pause")
			typedIn(l.SourceAdmin, `SELECT pg_terminate_backend\(\d+\)`)(t, found...)
			require.Eventually(t, func() bool {
				return pgtest.Value(t, l.SourceAdmin, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'billing'") == "0"
			}, pgtest.Timeout, 10*time.Millisecond)
		}},
		situation{code: "prepared_transaction", change: []func(*inquiry.Options){preflighttest.AnyAge}, arise: func(t *testing.T) {
			pgtest.Exec(t, billing(t, l.SourceDSN.Database(), "SELECT pg_current_xact_id()"), "PREPARE TRANSACTION 'it''s mine'")
		}, typed: func(t *testing.T, found ...answer.Finding) {
			require.Contains(t, found[0].Detail, "holds its locks through a pause")
			typedIn(l.SourceAdmin, `ROLLBACK PREPARED '(?:[^']|'')*'`)(t, found...)
		}})
	// What is set now is not: the target has the source's level of WAL only for a way back.
	set(answer.Target, "wal_level = logical")(t)
	for _, x := range rows {
		l.removes(t, x)
	}

	// What nothing waits for is not told, and of another database only what the slot waits for.
	reading := billing(t, "postgres", "SELECT 1")
	require.Empty(t, l.Ask(t, server.LongTransactions, preflighttest.AnyAge))
	pgtest.Exec(t, reading, "SELECT pg_current_xact_id()")
	found := l.Ask(t, server.LongTransactions, preflighttest.AnyAge)
	require.Equal(t, "long_transaction", found[0].Code)
	require.NotContains(t, found[0].Detail, "pause")
	pgtest.Exec(t, reading, "PREPARE TRANSACTION 'there'")
	require.NotContains(t, l.Ask(t, server.PreparedTransactions)[0].Detail, "locks")
	require.Empty(t, l.Ask(t, server.PreparedTransactions, preflighttest.CopyMode), "a copy of this database has nothing of it")
	pgtest.Exec(t, reading, "ROLLBACK PREPARED 'there'")
	billing(t, l.SourceDSN.Database(), "SELECT 1")
	require.Contains(t, l.Ask(t, server.LongTransactions, preflighttest.AnyAge)[0].Detail, "the slot does not wait for it")
}

// A standby can be neither side. What else would be wrong with it as a target is not asked.
func TestAStandbyIsToldOnce(t *testing.T) {
	t.Parallel()
	l := newLimited(t)
	of := func(c *pgcluster.Cluster, dsn pg.DSN) pg.DSN {
		standby := pgtest.Own(t, pgtest.Source, func(cfg *pgcluster.Config) { cfg.CopyOf, cfg.Standby = c, true })
		return standby.DSN(dsn.User(), dsn.Password(), dsn.Database())
	}
	primary := l.SourceDSN
	l.removes(t, situation{code: "source_is_standby", arise: func(t *testing.T) { l.SourceDSN = of(l.sourceServer, primary) }, typed: func(t *testing.T, found ...answer.Finding) {
		require.Contains(t, found[0].Remedy, "name the primary server as --source")
		l.SourceDSN = primary
	}})
	target := l.TargetDSN
	l.removes(t, situation{code: "standby", alone: true, arise: func(t *testing.T) { l.TargetDSN = of(l.targetServer, target) }, typed: func(t *testing.T, found ...answer.Finding) {
		require.Contains(t, found[0].Remedy, "name the primary server as --target")
		l.TargetDSN = target
	}})
}

// What is given to the program is told once, and what is printed of it, given, removes it.
func TestWhatIsToldOfWhatIsGivenGoesWithItsRemedy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	own, target := preflighttest.Major(t), f.TargetDSN
	dump, host := own, target.Host()
	given := []func(*inquiry.Options){func(o *inquiry.Options) {
		o.TargetHost = host
		o.PgDumpMajor = func(context.Context) (int, error) {
			if dump == 0 {
				return 0, errors.New("no such program")
			}
			return dump, nil
		}
	}}
	number := func(t *testing.T, remedy string) int {
		n, err := strconv.Atoi(printed(t, remedy, `version (\d+)`))
		require.NoError(t, err)
		return n
	}
	install := func(t *testing.T, found ...answer.Finding) { dump = number(t, found[0].Remedy) }
	for _, x := range []situation{
		{code: "pg_dump_missing", change: given, arise: func(*testing.T) { dump = 0 }, typed: install},
		{code: "pg_dump_older", change: given, arise: func(*testing.T) { dump = own - 1 }, typed: install},
		{code: "pooler_host", change: given, arise: func(*testing.T) { host = "ep-1-pooler.neon.tech" }, typed: func(t *testing.T, found ...answer.Finding) {
			host = printed(t, found[0].Remedy, `direct host (\S+)`)
		}},
		{code: "one_database", alone: true, arise: func(*testing.T) { f.TargetDSN = f.SourceDSN }, typed: func(t *testing.T, found ...answer.Finding) {
			require.Contains(t, found[0].Remedy, "name another database as --target")
			f.TargetDSN = target
		}},
		{code: "pg_dump_newer", change: given, arise: func(*testing.T) { dump = own + 1 }, stays: true},
	} {
		f.removes(t, x)
	}
	wanted := func(o *inquiry.Options) { o.Fallback = true }
	require.Equal(t, []string{"no_fallback"}, slices.DeleteFunc(codesOf(f.whole(t)), func(c string) bool { return c != "no_fallback" }))
	require.NotContains(t, codesOf(f.whole(t, wanted)), "no_fallback")
}

// REFRESH, as it is printed, takes out of a materialised view what its query does not give.
func TestAMaterialisedViewIsRefreshedAsItIsPrinted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	found := f.removes(t, situation{code: "matview", stays: true, source: "SET ROLE " + f.SourceDSN.User() + `; CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t VALUES (1);
		CREATE MATERIALIZED VIEW public."The sum" AS SELECT id FROM public.t; DELETE FROM public.t; RESET ROLE`})
	require.Equal(t, "1", pgtest.Value(t, f.Source, `SELECT count(*) FROM public."The sum"`))
	typedIn(f.Source, `REFRESH MATERIALIZED VIEW \S+(?: [^ ]+")?`)(t, found)
	require.Equal(t, "0", pgtest.Value(t, f.Source, `SELECT count(*) FROM public."The sum"`))
}
