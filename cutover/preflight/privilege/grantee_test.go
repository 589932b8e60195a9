package privilege

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// What privileges and policies name must be there, unless it is made, left out, or a platform's.
func TestRolesThatTheSchemaNames(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	require.Empty(t, f.Ask(t, Grantees, preflighttest.CopyMode))
	role := "named_" + f.SourceDSN.User()
	pgtest.Exec(t, f.SourceAdmin, "CREATE ROLE "+role)
	t.Cleanup(func() { pgtest.DropRole(t, pgtest.Shared(t, pgtest.Source), f.SourceDSN.Database(), role) })
	pgtest.Exec(t, f.Source, "CREATE TABLE t (id int, v text)")
	want := []preflighttest.Seen{{answer.Blocker, "role_missing", role}}
	for _, right := range []string{"SELECT ON t", "UPDATE (v) ON t", "USAGE ON SCHEMA public"} {
		pgtest.Exec(t, f.SourceAdmin, "GRANT "+right+" TO "+role)
		require.Equal(t, want, preflighttest.Short(f.Ask(t, Grantees, preflighttest.CopyMode)), right)
		pgtest.Exec(t, f.SourceAdmin, "REVOKE "+right+" FROM "+role)
		require.Empty(t, f.Ask(t, Grantees, preflighttest.CopyMode), right)
	}
	// An owner's own rights, which are listed with those of others, are no grant.
	pgtest.Exec(t, f.SourceAdmin, "CREATE TABLE owned (id int); ALTER TABLE owned OWNER TO "+role+"; GRANT SELECT ON owned TO "+f.SourceDSN.User())
	pgtest.Exec(t, f.SourceAdmin, "ALTER SCHEMA public OWNER TO "+role)
	require.Empty(t, f.Ask(t, Grantees, preflighttest.CopyMode))
	pgtest.Exec(t, f.SourceAdmin, "REVOKE INSERT ON owned FROM "+role)
	require.Equal(t, want, preflighttest.Short(f.Ask(t, Grantees, preflighttest.CopyMode)), "what its owner has lost is written down with its name")
	pgtest.Exec(t, f.SourceAdmin, "DROP TABLE owned; ALTER SCHEMA public OWNER TO "+f.SourceDSN.User())
	pgtest.Exec(t, f.Source, "GRANT SELECT ON t TO "+role)
	require.Empty(t, f.Ask(t, Grantees, preflighttest.CopyMode, func(o *inquiry.Options) { o.Scope.NoACL = true }))
	require.Empty(t, f.Ask(t, Grantees, preflighttest.CopyMode, func(o *inquiry.Options) { o.PlatformRole = func(name string) bool { return name == role } }))
	require.Empty(t, f.Ask(t, Grantees, preflighttest.CopyMode, func(o *inquiry.Options) { o.Scope.Taken = &inquiry.Taken{} }), "the table is not taken along")
	pgtest.Exec(t, f.Source, "CREATE POLICY p ON t TO "+role+" USING (true)")
	require.Equal(t, want, preflighttest.Short(f.Ask(t, Grantees, preflighttest.CopyMode, func(o *inquiry.Options) { o.Scope.NoACL = true })), "a policy is no privilege")

	make := func(o *inquiry.Options) { o.Mode, o.Scope.MakeRoles = inquiry.Copy, true }
	pgtest.Exec(t, f.TargetAdmin, "ALTER ROLE "+f.TargetDSN.User()+" NOCREATEROLE")
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "no_createrole", f.TargetDSN.User()}}, preflighttest.Short(f.Ask(t, Grantees, preflighttest.CopyMode, make)))
	pgtest.Exec(t, f.TargetAdmin, "ALTER ROLE "+f.TargetDSN.User()+" CREATEROLE")
	require.Empty(t, f.Ask(t, Grantees, preflighttest.CopyMode, make))
	pgtest.Exec(t, f.TargetAdmin, "CREATE ROLE "+role)
	t.Cleanup(func() { pgtest.DropRole(t, pgtest.Shared(t, pgtest.Target), f.TargetDSN.Database(), role) })
	require.Empty(t, f.Ask(t, Grantees, preflighttest.CopyMode))
}

// What only a superuser can make is told once, and is no finding any more once it was dropped.
func TestWhatOnlyASuperuserMakesIsNamed(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	require.Empty(t, f.Ask(t, SuperuserObjects))
	pgtest.Exec(t, f.SourceAdmin, "CREATE TYPE public.shell")
	found := f.Ask(t, SuperuserObjects)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "needs_superuser", "public.shell"}}, preflighttest.Short(found))
	require.Equal(t, "drop it on the source", found[0].Remedy)
	pgtest.Exec(t, f.SourceAdmin, "DROP TYPE public.shell")
	require.Empty(t, f.Ask(t, SuperuserObjects))
}
