package database

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestUnloggedTables(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.Source, "CREATE TABLE a (id int PRIMARY KEY)")
	require.Empty(t, f.Ask(t, UnloggedTables))
	pgtest.Exec(t, f.Source, "CREATE UNLOGGED TABLE cache (id int PRIMARY KEY)")
	for _, change := range []func(*inquiry.Options){preflighttest.CopyMode, func(*inquiry.Options) {}} {
		require.Equal(t, []preflighttest.Seen{{answer.Warning, "unlogged_table", "public.cache"}}, preflighttest.Short(f.Ask(t, UnloggedTables, change)))
	}
}

func TestLargeObjects(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	require.Empty(t, f.Ask(t, LargeObjects))
	pgtest.Exec(t, f.Source, "SELECT lo_create(0), lo_create(0)")
	found := f.Ask(t, LargeObjects)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "large_objects", "pg_largeobject"}}, preflighttest.Short(found))
	require.Contains(t, found[0].Detail, "2 large objects")
	wanted := func(o *inquiry.Options) { o.LargeObjects = true }
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "large_objects", "pg_largeobject"}}, preflighttest.Short(f.Ask(t, LargeObjects, wanted)), "they are not followed")
	require.Empty(t, f.Ask(t, LargeObjects, preflighttest.CopyMode, wanted))
}

func TestEventTriggers(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	require.Empty(t, f.Ask(t, EventTriggers))

	const watch = `CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
		CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION public.watch()`
	pgtest.Exec(t, f.SourceAdmin, watch)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "event_trigger_not_allowed", "watch"}}, preflighttest.Short(f.Ask(t, EventTriggers)))

	pgtest.Exec(t, f.TargetAdmin, "ALTER DATABASE "+f.TargetDSN.Database()+" SET neon.endpoint_id = 'ep-x-1'")
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "event_trigger", "watch"}}, preflighttest.Short(f.Ask(t, EventTriggers)), "Neon lets its roles make them")

	pgtest.Exec(t, f.SourceAdmin, "DROP EVENT TRIGGER watch")
	pgtest.Exec(t, f.TargetAdmin, watch)
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "target_event_trigger", "watch"}}, preflighttest.Short(f.Ask(t, EventTriggers)))
	require.Empty(t, f.Ask(t, EventTriggers, preflighttest.Resume))
}

func TestReplicaIdentity(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.Source, preflighttest.Ordinary)
	require.Empty(t, f.Ask(t, ReplicaIdentity))

	pgtest.Exec(t, f.Source, `
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
	found := f.Ask(t, ReplicaIdentity)
	require.Equal(t, []preflighttest.Seen{
		{answer.Blocker, "replica_identity", "public.bare"},
		{answer.Blocker, "replica_identity", "public.keyed"},
		{answer.Blocker, "replica_identity", "public.late"},
		{answer.Blocker, "replica_identity", "public.lost"},
		{answer.Blocker, "replica_identity", "public.nothing"},
		{answer.Blocker, "replica_identity", "public.parted_1"},
		{answer.Info, "replica_identity_full", "public.whole"},
		{answer.Warning, "replica_identity_full", "public.whole_keyed"},
	}, preflighttest.Short(found))
	remedies := map[string]string{}
	for _, finding := range found {
		remedies[finding.Object] = finding.Remedy
	}
	require.Equal(t, `ALTER TABLE "public"."bare" REPLICA IDENTITY FULL`, remedies["public.bare"])
	require.Equal(t, `ALTER TABLE "public"."keyed" REPLICA IDENTITY USING INDEX "Keyed a"`, remedies["public.keyed"])
	require.Equal(t, `ALTER TABLE "public"."nothing" REPLICA IDENTITY DEFAULT`, remedies["public.nothing"])

	// What the check says of a published table is what the server does, and the remedies help.
	pgtest.Exec(t, f.Source, "CREATE PUBLICATION p FOR TABLE bare, keyed, nothing, late, lost, parted_1, whole, whole_keyed")
	for _, finding := range found {
		_, err := f.Source.Exec(t.Context(), "DELETE FROM "+finding.Object)
		require.Equal(t, finding.Severity == answer.Blocker, err != nil, "%s: %v", finding.Object, err)
		if finding.Remedy != "" {
			pgtest.Exec(t, f.Source, finding.Remedy)
		}
		pgtest.Exec(t, f.Source, "DELETE FROM "+finding.Object)
	}
	for _, finding := range f.Ask(t, ReplicaIdentity) {
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

	// The view's query, on the version at hand.
	fx := preflighttest.New(t)
	pgtest.Exec(t, fx.Source, `CREATE TABLE g (a int NOT NULL, b int NOT NULL GENERATED ALWAYS AS (a + 1) STORED, PRIMARY KEY (b));
		CREATE UNIQUE INDEX g_a ON g (a)`)
	p := fx.Pair(t)
	rows, err := inquiry.List[identity](t.Context(), p.Source, "replica identities", identities)
	require.NoError(t, err)
	require.Equal(t, []identity{{Schema: "public", Table: "g", Setting: "d", Primary: true, Generated: true, Candidate: "g_a"}}, rows)
}
