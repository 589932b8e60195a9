package privilege

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestSourcePrivilegesOnTables(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	role := f.SourceDSN.User()
	pgtest.Exec(t, f.Source, "CREATE TABLE own (id int PRIMARY KEY)")
	require.Empty(t, f.Ask(t, OnSource))

	pgtest.Exec(t, f.SourceAdmin, `
		CREATE SCHEMA hidden; CREATE TABLE hidden.secret (id int PRIMARY KEY);
		CREATE TABLE public.other (id int PRIMARY KEY);
		CREATE TABLE public."Read only" (id int PRIMARY KEY); GRANT SELECT ON public."Read only" TO `+role)
	owner := "owner_" + role
	pgtest.Exec(t, f.SourceAdmin, "CREATE ROLE "+owner+"; ALTER TABLE hidden.secret OWNER TO "+owner+"; GRANT USAGE ON SCHEMA hidden TO "+owner)
	t.Cleanup(func() { pgtest.DropRole(t, pgtest.Shared(t, pgtest.Source), f.SourceDSN.Database(), owner) })
	found := f.Ask(t, OnSource)
	require.Equal(t, []preflighttest.Seen{
		{answer.Blocker, "table_not_owned", "hidden.secret"},
		{answer.Blocker, "table_not_owned", "public.Read only"},
		{answer.Blocker, "table_not_owned", "public.other"},
	}, preflighttest.Short(found), "a member of its owner may look into the schema too")
	require.Equal(t, `GRANT "`+owner+`" TO "`+role+`"`, found[0].Remedy)
	require.Equal(t, `ALTER TABLE "public"."other" OWNER TO "`+role+`"`, found[2].Remedy, "nobody is made a member of a superuser")
	pgtest.Exec(t, f.SourceAdmin, "ALTER TABLE hidden.secret OWNER TO CURRENT_USER")
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "schema_not_usable", "hidden"}, {answer.Blocker, "table_not_owned", "hidden.secret"}},
		preflighttest.Short(f.Ask(t, OnSource))[:2], "who becomes the owner of a table does not see its schema for that")

	found = f.Ask(t, OnSource, preflighttest.CopyMode)
	require.Equal(t, []preflighttest.Seen{
		{answer.Blocker, "schema_not_usable", "hidden"},
		{answer.Blocker, "table_not_readable", "hidden.secret"},
		{answer.Blocker, "table_not_readable", "public.other"},
	}, preflighttest.Short(found), "a copy has only to read")
	for _, finding := range found {
		pgtest.Exec(t, f.SourceAdmin, finding.Remedy)
	}
	require.Empty(t, f.Ask(t, OnSource, preflighttest.CopyMode), "the remedies help")
}

func TestSourcePrivilegesOfTheRole(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	role, database := f.SourceDSN.User(), f.SourceDSN.Database()
	require.Empty(t, f.Ask(t, OnSource))

	pgtest.Exec(t, f.SourceAdmin, "REVOKE pg_monitor, pg_signal_backend FROM "+role+"; ALTER DATABASE "+database+" OWNER TO postgres; GRANT CONNECT ON DATABASE "+database+" TO "+role)
	found := f.Ask(t, OnSource)
	require.Equal(t, []preflighttest.Seen{
		{answer.Blocker, "no_create_on_source", role},
		{answer.Blocker, "no_pg_monitor", role},
		{answer.Warning, "no_pg_signal_backend", role},
	}, preflighttest.Short(found))
	require.Empty(t, f.Ask(t, OnSource, preflighttest.CopyMode))
	for _, finding := range found {
		pgtest.Exec(t, f.SourceAdmin, finding.Remedy)
	}
	require.Empty(t, f.Ask(t, OnSource), "the remedies help")
}

func TestSequencePrivileges(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.Source, "CREATE SEQUENCE own; CREATE TABLE t (id serial PRIMARY KEY)")
	require.Empty(t, f.Ask(t, OnSequences))

	pgtest.Exec(t, f.SourceAdmin, `CREATE SEQUENCE public."Invoice"`)
	found := f.Ask(t, OnSequences, preflighttest.CopyMode)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "sequence_not_readable", "public.Invoice"}}, preflighttest.Short(found))
	pgtest.Exec(t, f.SourceAdmin, found[0].Remedy)
	require.Empty(t, f.Ask(t, OnSequences))
}

func TestRowSecurity(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.Source, "CREATE TABLE tenant (id int PRIMARY KEY); ALTER TABLE tenant ENABLE ROW LEVEL SECURITY")
	require.Empty(t, f.Ask(t, RowSecurity), "policies do not apply to the owner")

	pgtest.Exec(t, f.Source, "ALTER TABLE tenant FORCE ROW LEVEL SECURITY")
	found := f.Ask(t, RowSecurity)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "row_security", "public.tenant"}, {answer.Blocker, "row_security", "public.tenant"}}, preflighttest.Short(found))

	pgtest.Exec(t, f.SourceAdmin, "ALTER ROLE "+f.SourceDSN.User()+" BYPASSRLS")
	found = f.Ask(t, RowSecurity)
	require.Len(t, found, 1)
	require.Contains(t, found[0].Remedy, "on the target")
	pgtest.Exec(t, f.TargetAdmin, "ALTER ROLE "+f.TargetDSN.User()+" BYPASSRLS")
	require.Empty(t, f.Ask(t, RowSecurity))

	pgtest.Exec(t, f.SourceAdmin, "ALTER ROLE "+f.SourceDSN.User()+" NOBYPASSRLS; CREATE TABLE public.foreign_tenant (id int PRIMARY KEY); ALTER TABLE public.foreign_tenant ENABLE ROW LEVEL SECURITY")
	require.Contains(t, preflighttest.Short(f.Ask(t, RowSecurity, preflighttest.CopyMode)), preflighttest.Seen{answer.Blocker, "row_security", "public.foreign_tenant"})
}

func TestTargetPrivileges(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	role, database := f.TargetDSN.User(), f.TargetDSN.Database()
	pgtest.Exec(t, f.Source, "CREATE TABLE t (id int PRIMARY KEY)")
	require.Empty(t, f.Ask(t, OnTarget))

	pgtest.Exec(t, f.TargetAdmin, "ALTER DATABASE "+database+" OWNER TO cloud_admin; GRANT CONNECT ON DATABASE "+database+" TO "+role)
	found := f.Ask(t, OnTarget)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "no_create_on_target", role}, {answer.Blocker, "schema_not_writable", "public"}}, preflighttest.Short(found))
	for _, finding := range found {
		pgtest.Exec(t, f.TargetAdmin, finding.Remedy)
	}
	require.Empty(t, f.Ask(t, OnTarget), "the remedies help")
}

// Where no rows are read, what hides them is no matter.
func TestRowsThatAreNotCopiedAreNotChecked(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.SourceAdmin, `CREATE TABLE public.tenant (id serial PRIMARY KEY); ALTER TABLE public.tenant ENABLE ROW LEVEL SECURITY`)
	pgtest.Exec(t, f.Source, "SELECT 1")
	all := preflighttest.OIDs(t, f.SourceAdmin, "public.tenant", "public.tenant_id_seq")
	for _, without := range []func(o *inquiry.Options){
		func(o *inquiry.Options) { o.Mode, o.Scope.SchemaOnly = inquiry.Copy, true },
		func(o *inquiry.Options) {
			o.Mode, o.Scope.Taken = inquiry.Copy, &inquiry.Taken{Everything: true, Relations: all, WithoutRows: all}
		},
	} {
		require.NotEmpty(t, f.Ask(t, RowSecurity, preflighttest.CopyMode))
		require.NotEmpty(t, f.Ask(t, OnSequences, preflighttest.CopyMode))
		require.Empty(t, f.Ask(t, RowSecurity, without))
		require.Empty(t, f.Ask(t, OnSequences, without))
		require.Equal(t, []preflighttest.Seen{{answer.Blocker, "table_not_readable", "public.tenant"}}, preflighttest.Short(f.Ask(t, OnSource, without)), "pg_dump locks it all the same")
	}
}
