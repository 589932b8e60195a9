package preflight

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/database"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/cutover/preflight/privilege"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// vault is a source of which one schema is the application's, and another one the
// platform's, which the migrating role may not look into.
const vault = `
	CREATE SCHEMA vault; CREATE SCHEMA watch;
	CREATE TABLE vault.secret (id serial PRIMARY KEY, word text COLLATE "POSIX");
	CREATE TABLE vault.tenant (id int PRIMARY KEY); ALTER TABLE vault.tenant ENABLE ROW LEVEL SECURITY;
	CREATE UNLOGGED TABLE vault.cache (id int);
	CREATE MATERIALIZED VIEW vault.sum AS SELECT 1 AS one;
	CREATE FUNCTION vault.raw() RETURNS int LANGUAGE internal AS 'pg_backend_pid';
	CREATE FUNCTION watch.ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
	CREATE EVENT TRIGGER ddl ON ddl_command_end EXECUTE FUNCTION watch.ddl();
	CREATE EXTENSION pageinspect`

func TestPatternsDecideWhatIsChecked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	role := "named_" + f.SourceDSN.User()
	pgtest.Exec(t, f.Source, "CREATE TABLE public.mine (id serial PRIMARY KEY, name text)")
	pgtest.Exec(t, f.SourceAdmin, vault+"; CREATE ROLE "+role+"; GRANT SELECT ON vault.secret TO "+role+"; SELECT lo_create(0)")
	t.Cleanup(func() { pgtest.DropRole(t, pgtest.Shared(t, pgtest.Source), f.SourceDSN.Database(), role) })
	pgtest.Exec(t, f.TargetAdmin, `SET allow_system_table_mods = on; DELETE FROM pg_collation WHERE collname = 'POSIX'`)
	pgtest.Exec(t, f.Target, "CREATE TABLE elsewhere (id int)")
	checks := []string{"source privileges", "sequence privileges", "row security", "collation", "unlogged tables", "objects for superusers", "event triggers",
		"extensions", "roles of the schema", "target empty", "large objects", "materialised views"}
	for _, name := range checks {
		require.NotEmpty(t, f.ask(t, name, preflighttest.CopyMode), "of everything: %s", name)
	}
	mine := func(o *inquiry.Options) {
		o.Mode = inquiry.Copy
		o.Scope.Taken = &inquiry.Taken{Schemas: preflighttest.OIDs(t, f.SourceAdmin), Relations: preflighttest.OIDs(t, f.SourceAdmin, "public.mine", "public.mine_id_seq")}
	}
	for _, name := range checks {
		require.Empty(t, f.ask(t, name, mine), "of one table: %s", name)
	}
	// What is taken along is looked at as before.
	pgtest.Exec(t, f.SourceAdmin, "ALTER TABLE public.mine OWNER TO postgres; ALTER TABLE public.mine ENABLE ROW LEVEL SECURITY; GRANT SELECT ON public.mine TO "+role)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "table_not_readable", "public.mine"}}, preflighttest.Short(f.Ask(t, privilege.OnSource, mine)))
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "sequence_not_readable", "public.mine_id_seq"}}, preflighttest.Short(f.Ask(t, privilege.OnSequences, mine)))
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "row_security", "public.mine"}}, preflighttest.Short(f.Ask(t, privilege.RowSecurity, mine)))
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "role_missing", role}}, preflighttest.Short(f.Ask(t, privilege.Grantees, mine)))
	pgtest.Exec(t, f.Target, "CREATE TABLE mine (id int)")
	found := f.Ask(t, database.TargetEmpty, mine)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "target_not_empty", "public.mine"}}, preflighttest.Short(found))
	require.Contains(t, found[0].Remedy, "--clean")
	require.NotContains(t, found[0].Detail, "elsewhere", "it is not in the way")
}
