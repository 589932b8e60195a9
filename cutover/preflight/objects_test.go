package preflight

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestUnloggedTables(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.source, "CREATE TABLE a (id int PRIMARY KEY)")
	require.Empty(t, f.ask(t, "unlogged tables"))
	pgtest.Exec(t, f.source, "CREATE UNLOGGED TABLE cache (id int PRIMARY KEY)")
	for _, change := range []func(*inquiry.Options){copyMode, func(*inquiry.Options) {}} {
		require.Equal(t, []seen{{answer.Warning, "unlogged_table", "public.cache"}}, short(f.ask(t, "unlogged tables", change)))
	}
}

func TestLargeObjects(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Empty(t, f.ask(t, "large objects"))
	pgtest.Exec(t, f.source, "SELECT lo_create(0), lo_create(0)")
	found := f.ask(t, "large objects")
	require.Equal(t, []seen{{answer.Blocker, "large_objects", "pg_largeobject"}}, short(found))
	require.Contains(t, found[0].Detail, "2 large objects")
	wanted := func(o *inquiry.Options) { o.LargeObjects = true }
	require.Equal(t, []seen{{answer.Warning, "large_objects", "pg_largeobject"}}, short(f.ask(t, "large objects", wanted)), "they are not followed")
	require.Empty(t, f.ask(t, "large objects", copyMode, wanted))
}

func TestEventTriggers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Empty(t, f.ask(t, "event triggers"))

	const watch = `CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
		CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION public.watch()`
	pgtest.Exec(t, f.sourceAdmin, watch)
	require.Equal(t, []seen{{answer.Blocker, "event_trigger_not_allowed", "watch"}}, short(f.ask(t, "event triggers")))

	pgtest.Exec(t, f.targetAdmin, "ALTER DATABASE "+f.targetDSN.Database()+" SET neon.endpoint_id = 'ep-x-1'")
	require.Equal(t, []seen{{answer.Warning, "event_trigger", "watch"}}, short(f.ask(t, "event triggers")), "Neon lets its roles make them")

	pgtest.Exec(t, f.sourceAdmin, "DROP EVENT TRIGGER watch")
	pgtest.Exec(t, f.targetAdmin, watch)
	require.Equal(t, []seen{{answer.Warning, "target_event_trigger", "watch"}}, short(f.ask(t, "event triggers")))
	require.Empty(t, f.ask(t, "event triggers", resume))
}

func TestReplicaIdentity(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.source, ordinary)
	require.Empty(t, f.ask(t, "replica identity"))

	pgtest.Exec(t, f.source, `
		CREATE TABLE bare (a int, b int);
		CREATE TABLE keyed (a int NOT NULL, b int, c int NOT NULL);
		CREATE UNIQUE INDEX "Keyed a" ON keyed (a); CREATE UNIQUE INDEX keyed_b ON keyed (b); CREATE UNIQUE INDEX keyed_expr ON keyed ((c + 1));
		CREATE UNIQUE INDEX keyed_part ON keyed (c) WHERE a > 0;
		CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
		CREATE TABLE whole (a int); ALTER TABLE whole REPLICA IDENTITY FULL;
		CREATE TABLE whole_keyed (id int PRIMARY KEY); ALTER TABLE whole_keyed REPLICA IDENTITY FULL;
		CREATE TABLE late (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
		CREATE TABLE lost (a int NOT NULL); CREATE UNIQUE INDEX lost_a ON lost (a); ALTER TABLE lost REPLICA IDENTITY USING INDEX lost_a; DROP INDEX lost_a;
		CREATE TABLE parted (a int) PARTITION BY LIST (a); CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
		CREATE UNLOGGED TABLE scratch (a int); CREATE TEMP TABLE mine (a int)`)
	found := f.ask(t, "replica identity")
	require.Equal(t, []seen{
		{answer.Blocker, "replica_identity", "public.bare"},
		{answer.Blocker, "replica_identity", "public.keyed"},
		{answer.Blocker, "replica_identity", "public.late"},
		{answer.Blocker, "replica_identity", "public.lost"},
		{answer.Blocker, "replica_identity", "public.nothing"},
		{answer.Blocker, "replica_identity", "public.parted_1"},
		{answer.Info, "replica_identity_full", "public.whole"},
		{answer.Warning, "replica_identity_full", "public.whole_keyed"},
	}, short(found))
	remedies := map[string]string{}
	for _, finding := range found {
		remedies[finding.Object] = finding.Remedy
	}
	require.Equal(t, `ALTER TABLE "public"."bare" REPLICA IDENTITY FULL`, remedies["public.bare"])
	require.Equal(t, `ALTER TABLE "public"."keyed" REPLICA IDENTITY USING INDEX "Keyed a"`, remedies["public.keyed"])
	require.Equal(t, `ALTER TABLE "public"."nothing" REPLICA IDENTITY DEFAULT`, remedies["public.nothing"])

	// What the check says of a published table is what the server does, and the
	// remedies help.
	pgtest.Exec(t, f.source, "CREATE PUBLICATION p FOR TABLE bare, keyed, nothing, late, lost, parted_1, whole, whole_keyed")
	for _, finding := range found {
		_, err := f.source.Exec(t.Context(), "DELETE FROM "+finding.Object)
		require.Equal(t, finding.Severity == answer.Blocker, err != nil, "%s: %v", finding.Object, err)
		if finding.Remedy != "" {
			pgtest.Exec(t, f.source, finding.Remedy)
		}
		pgtest.Exec(t, f.source, "DELETE FROM "+finding.Object)
	}
	for _, finding := range f.ask(t, "replica identity") {
		require.Equal(t, answer.Info, finding.Severity, finding.Object)
	}
}

func TestGeneratedColumnsInTheIdentity(t *testing.T) {
	t.Parallel()
	whole := identity{Schema: "public", Table: "t", Setting: "f", Generated: true}
	f, ok := identityFinding(170000, whole)
	require.True(t, ok)
	require.Equal(t, answer.Info, f.Severity, "before 18 they are left out of the identity")

	byKey := whole
	byKey.Setting, byKey.Primary = "d", true
	f, ok = identityFinding(150000, byKey)
	require.True(t, ok)
	require.Equal(t, "replica_identity_generated", f.Code)
	require.Equal(t, answer.Blocker, f.Severity, "logical decoding leaves the column out, so that nothing names the row")
	require.Equal(t, `ALTER TABLE "public"."t" REPLICA IDENTITY FULL`, f.Remedy)

	f, ok = identityFinding(180000, whole)
	require.True(t, ok)
	require.Equal(t, "replica_identity_generated", f.Code)
	require.Equal(t, answer.Blocker, f.Severity)
	require.Contains(t, f.Remedy, "primary key without generated columns")

	whole.Candidate = "t_a"
	f, _ = identityFinding(180000, whole)
	require.Equal(t, `ALTER TABLE "public"."t" REPLICA IDENTITY USING INDEX "t_a"`, f.Remedy)

	// The query behind it, on the version at hand.
	fx := newFixture(t)
	pgtest.Exec(t, fx.source, `CREATE TABLE g (a int NOT NULL, b int NOT NULL GENERATED ALWAYS AS (a + 1) STORED, PRIMARY KEY (b));
		CREATE UNIQUE INDEX g_a ON g (a)`)
	p := fx.pair(t)
	rows, err := inquiry.List[identity](t.Context(), p.Source, "replica identities", identities)
	require.NoError(t, err)
	require.Equal(t, []identity{{Schema: "public", Table: "g", Setting: "d", Primary: true, Generated: true, Candidate: "g_a"}}, rows)
}
