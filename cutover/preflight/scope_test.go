package preflight

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// oids are the numbers of relations of the source, by their names.
func oids(t *testing.T, conn *pgx.Conn, names ...string) []uint32 {
	t.Helper()
	var list []uint32
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT array_agg(n::regclass::oid) FROM unnest($1::text[]) n`, names).Scan(&list))
	return list
}

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
	role := "named_" + f.sourceDSN.User()
	pgtest.Exec(t, f.source, "CREATE TABLE public.mine (id serial PRIMARY KEY, name text)")
	pgtest.Exec(t, f.sourceAdmin, vault+"; CREATE ROLE "+role+"; GRANT SELECT ON vault.secret TO "+role+"; SELECT lo_create(0)")
	t.Cleanup(func() { pgtest.DropRole(t, pgtest.Shared(t, pgtest.Source), f.sourceDSN.Database(), role) })
	pgtest.Exec(t, f.targetAdmin, `SET allow_system_table_mods = on; DELETE FROM pg_collation WHERE collname = 'POSIX'`)
	pgtest.Exec(t, f.target, "CREATE TABLE elsewhere (id int)")
	checks := []string{"source privileges", "sequence privileges", "row security", "collation", "unlogged tables", "objects for superusers", "event triggers",
		"extensions", "roles of the schema", "target empty", "large objects", "materialised views"}
	for _, name := range checks {
		require.NotEmpty(t, f.ask(t, name, copyMode), "of everything: %s", name)
	}
	mine := func(o *inquiry.Options) {
		o.Mode = inquiry.Copy
		o.Scope.Taken = &inquiry.Taken{Schemas: oids(t, f.sourceAdmin), Relations: oids(t, f.sourceAdmin, "public.mine", "public.mine_id_seq")}
	}
	for _, name := range checks {
		require.Empty(t, f.ask(t, name, mine), "of one table: %s", name)
	}
	// What is taken along is looked at as before.
	pgtest.Exec(t, f.sourceAdmin, "ALTER TABLE public.mine OWNER TO postgres; ALTER TABLE public.mine ENABLE ROW LEVEL SECURITY; GRANT SELECT ON public.mine TO "+role)
	require.Equal(t, []seen{{answer.Blocker, "table_not_readable", "public.mine"}}, short(f.ask(t, "source privileges", mine)))
	require.Equal(t, []seen{{answer.Blocker, "sequence_not_readable", "public.mine_id_seq"}}, short(f.ask(t, "sequence privileges", mine)))
	require.Equal(t, []seen{{answer.Blocker, "row_security", "public.mine"}}, short(f.ask(t, "row security", mine)))
	require.Equal(t, []seen{{answer.Blocker, "role_missing", role}}, short(f.ask(t, "roles of the schema", mine)))
	pgtest.Exec(t, f.target, "CREATE TABLE mine (id int)")
	found := f.ask(t, "target empty", mine)
	require.Equal(t, []seen{{answer.Blocker, "target_not_empty", "public.mine"}}, short(found))
	require.Contains(t, found[0].Remedy, "--clean")
	require.NotContains(t, found[0].Detail, "elsewhere", "it is not in the way")
}

// Where no rows are read, what hides them is no matter.
func TestRowsThatAreNotCopiedAreNotChecked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.sourceAdmin, `CREATE TABLE public.tenant (id serial PRIMARY KEY); ALTER TABLE public.tenant ENABLE ROW LEVEL SECURITY`)
	pgtest.Exec(t, f.source, "SELECT 1")
	all := oids(t, f.sourceAdmin, "public.tenant", "public.tenant_id_seq")
	for _, without := range []func(o *inquiry.Options){
		func(o *inquiry.Options) { o.Mode, o.Scope.SchemaOnly = inquiry.Copy, true },
		func(o *inquiry.Options) {
			o.Mode, o.Scope.Taken = inquiry.Copy, &inquiry.Taken{Everything: true, Relations: all, WithoutRows: all}
		},
	} {
		require.NotEmpty(t, f.ask(t, "row security", copyMode))
		require.NotEmpty(t, f.ask(t, "sequence privileges", copyMode))
		require.Empty(t, f.ask(t, "row security", without))
		require.Empty(t, f.ask(t, "sequence privileges", without))
		require.Equal(t, []seen{{answer.Blocker, "table_not_readable", "public.tenant"}}, short(f.ask(t, "source privileges", without)), "pg_dump locks it all the same")
	}
}

// Patterns leave extensions out, as with pg_dump; what is copied may need one.
func TestAnExtensionThatPatternsLeaveOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.source, `CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE EXTENSION pg_trgm SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext;
		CREATE TABLE plain (id int); CREATE TABLE mail (address ext.citext[]); CREATE TABLE word (w text); CREATE INDEX ON word USING gin (w ext.gin_trgm_ops)`)
	of := func(names ...string) func(o *inquiry.Options) {
		return func(o *inquiry.Options) {
			o.Mode, o.Scope.Taken = inquiry.Copy, &inquiry.Taken{Relations: oids(t, f.source, names...)}
		}
	}
	require.Empty(t, f.ask(t, "extensions", of("public.plain")))
	for table, name := range map[string]string{"public.mail": "citext", "public.word": "pg_trgm"} {
		found := f.ask(t, "extensions", of(table))
		require.Equal(t, []seen{{answer.Blocker, "extension_left_out", name}}, short(found))
		f.typed(t, found[0])
		require.Empty(t, f.ask(t, "extensions", of(table)), "the remedy helps")
	}
}
