package preflight

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestSourcePrivilegesOnTables(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	role := f.sourceDSN.User()
	pgtest.Exec(t, f.source, "CREATE TABLE own (id int PRIMARY KEY)")
	require.Empty(t, f.ask(t, "source privileges"))

	pgtest.Exec(t, f.sourceAdmin, `
		CREATE SCHEMA hidden; CREATE TABLE hidden.secret (id int PRIMARY KEY);
		CREATE TABLE public.other (id int PRIMARY KEY);
		CREATE TABLE public."Read only" (id int PRIMARY KEY); GRANT SELECT ON public."Read only" TO `+role)
	require.Equal(t, []seen{
		{answer.Blocker, "table_not_owned", "hidden.secret"},
		{answer.Blocker, "table_not_owned", "public.Read only"},
		{answer.Blocker, "table_not_owned", "public.other"},
	}, short(f.ask(t, "source privileges")), "a member of its owner may look into the schema too")

	found := f.ask(t, "source privileges", copyMode)
	require.Equal(t, []seen{
		{answer.Blocker, "schema_not_usable", "hidden"},
		{answer.Blocker, "table_not_readable", "hidden.secret"},
		{answer.Blocker, "table_not_readable", "public.other"},
	}, short(found), "a copy has only to read")
	for _, finding := range found {
		pgtest.Exec(t, f.sourceAdmin, finding.Remedy)
	}
	require.Empty(t, f.ask(t, "source privileges", copyMode), "the remedies help")
}

func TestSourcePrivilegesOfTheRole(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	role, database := f.sourceDSN.User(), f.sourceDSN.Database()
	require.Empty(t, f.ask(t, "source privileges"))

	pgtest.Exec(t, f.sourceAdmin, "REVOKE pg_monitor, pg_signal_backend FROM "+role+"; ALTER DATABASE "+database+" OWNER TO postgres; GRANT CONNECT ON DATABASE "+database+" TO "+role)
	found := f.ask(t, "source privileges")
	require.Equal(t, []seen{
		{answer.Blocker, "no_create_on_source", role},
		{answer.Blocker, "no_pg_monitor", role},
		{answer.Warning, "no_pg_signal_backend", role},
	}, short(found))
	require.Empty(t, f.ask(t, "source privileges", copyMode))
	for _, finding := range found {
		pgtest.Exec(t, f.sourceAdmin, finding.Remedy)
	}
	require.Empty(t, f.ask(t, "source privileges"), "the remedies help")
}

func TestSequencePrivileges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.source, "CREATE SEQUENCE own; CREATE TABLE t (id serial PRIMARY KEY)")
	require.Empty(t, f.ask(t, "sequence privileges"))

	pgtest.Exec(t, f.sourceAdmin, `CREATE SEQUENCE public."Invoice"`)
	found := f.ask(t, "sequence privileges", copyMode)
	require.Equal(t, []seen{{answer.Blocker, "sequence_not_readable", "public.Invoice"}}, short(found))
	pgtest.Exec(t, f.sourceAdmin, found[0].Remedy)
	require.Empty(t, f.ask(t, "sequence privileges"))
}

func TestRowSecurity(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.source, "CREATE TABLE tenant (id int PRIMARY KEY); ALTER TABLE tenant ENABLE ROW LEVEL SECURITY")
	require.Empty(t, f.ask(t, "row security"), "policies do not apply to the owner")

	pgtest.Exec(t, f.source, "ALTER TABLE tenant FORCE ROW LEVEL SECURITY")
	found := f.ask(t, "row security")
	require.Equal(t, []seen{{answer.Blocker, "row_security", "public.tenant"}, {answer.Blocker, "row_security", "public.tenant"}}, short(found))

	pgtest.Exec(t, f.sourceAdmin, "ALTER ROLE "+f.sourceDSN.User()+" BYPASSRLS")
	found = f.ask(t, "row security")
	require.Len(t, found, 1)
	require.Contains(t, found[0].Remedy, "on the target")
	pgtest.Exec(t, f.targetAdmin, "ALTER ROLE "+f.targetDSN.User()+" BYPASSRLS")
	require.Empty(t, f.ask(t, "row security"))

	pgtest.Exec(t, f.sourceAdmin, "ALTER ROLE "+f.sourceDSN.User()+" NOBYPASSRLS; CREATE TABLE public.foreign_tenant (id int PRIMARY KEY); ALTER TABLE public.foreign_tenant ENABLE ROW LEVEL SECURITY")
	require.Contains(t, short(f.ask(t, "row security", copyMode)), seen{answer.Blocker, "row_security", "public.foreign_tenant"})
}

func TestTargetPrivileges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	role, database := f.targetDSN.User(), f.targetDSN.Database()
	pgtest.Exec(t, f.source, "CREATE TABLE t (id int PRIMARY KEY)")
	require.Empty(t, f.ask(t, "target privileges"))

	pgtest.Exec(t, f.targetAdmin, "ALTER DATABASE "+database+" OWNER TO cloud_admin; GRANT CONNECT ON DATABASE "+database+" TO "+role)
	found := f.ask(t, "target privileges")
	require.Equal(t, []seen{{answer.Blocker, "no_create_on_target", role}, {answer.Blocker, "schema_not_writable", "public"}}, short(found))
	for _, finding := range found {
		pgtest.Exec(t, f.targetAdmin, finding.Remedy)
	}
	require.Empty(t, f.ask(t, "target privileges"), "the remedies help")
}

// Who has exchanged the two sides is not told to use another database alone.
func TestSidesThatLookExchangedAreSaidToBe(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.target, "CREATE TABLE a (id int PRIMARY KEY)")
	found := f.ask(t, "target empty")
	require.Equal(t, []seen{{answer.Blocker, "target_not_empty", "public.a"}}, short(found))
	require.Contains(t, found[0].Detail, "the source's has nothing")
	require.Contains(t, found[0].Remedy, "--source and --target are exchanged")
	f.source, f.target, f.sourceDSN, f.targetDSN = f.target, f.source, f.targetDSN, f.sourceDSN // as it says
	require.Empty(t, f.ask(t, "target empty"))
	pgtest.Exec(t, f.target, "CREATE TABLE b (id int PRIMARY KEY)")
	require.NotContains(t, f.ask(t, "target empty")[0].Remedy, "exchanged", "both have something")
}

func TestTargetEmpty(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.source, "CREATE TABLE a (id int PRIMARY KEY)")
	pgtest.Exec(t, f.targetAdmin, "CREATE EXTENSION pg_stat_statements SCHEMA public")
	require.Empty(t, f.ask(t, "target empty"), "what an extension brings is no user's")

	pgtest.Exec(t, f.target, "CREATE SCHEMA crossfade CREATE TABLE relation (relid oid PRIMARY KEY); CREATE TABLE a (id int PRIMARY KEY)")
	require.Equal(t, []seen{{answer.Blocker, "target_not_empty", "public.a"}}, short(f.ask(t, "target empty")))
	require.Empty(t, f.ask(t, "target empty", resume), "a run that goes on has made them")

	pgtest.Exec(t, f.target, "CREATE VIEW stranger AS SELECT 1 AS one")
	require.Equal(t, []seen{{answer.Blocker, "target_not_empty", "public.stranger"}}, short(f.ask(t, "target empty", resume)))

	pgtest.Exec(t, f.target, "DROP VIEW stranger; CREATE TYPE mood AS ENUM ('calm'); CREATE FUNCTION feel(mood) RETURNS int LANGUAGE sql AS 'SELECT 1'")
	found := f.ask(t, "target empty", resume)
	require.Contains(t, found[0].Detail, "public.feel(public.mood), public.mood")
	require.NotContains(t, found[0].Detail, "public.a", "neither the table nor its row type")

	pgtest.Exec(t, f.target, "DO $$BEGIN FOR n IN 1..9 LOOP EXECUTE format('CREATE TABLE many_%s (id int)', n); END LOOP; END$$")
	found = f.ask(t, "target empty", resume)
	require.Contains(t, found[0].Detail, "and 6 more")
}
