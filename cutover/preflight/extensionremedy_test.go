package preflight

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/extension"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// What is wrong with an extension is told once, and its statement, typed as it is printed, removes
// it.
func TestAnExtensionsFindingIsRemovedAsItIsPrinted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	onSource := func(begins string) func(*testing.T, ...answer.Finding) {
		return func(t *testing.T, found ...answer.Finding) {
			pgtest.Exec(t, f.SourceAdmin, statement(t, found[0].Remedy, begins))
		}
	}
	const kept = `CREATE EXTENSION tablefunc; CREATE TABLE public.kept (id int); INSERT INTO public.kept VALUES (1); ALTER EXTENSION tablefunc ADD TABLE public.kept;
		UPDATE pg_extension SET extconfig = ARRAY['public.kept'::regclass::oid], extcondition = ARRAY['WHERE id > 0'] WHERE extname = 'tablefunc'`
	pgtest.Exec(t, f.SourceAdmin, "CREATE SCHEMA ext; GRANT USAGE ON SCHEMA ext TO PUBLIC")
	for _, x := range []situation{
		{code: "extension_not_allowed", source: "CREATE EXTENSION pageinspect SCHEMA ext VERSION '1.9'"},
		{code: "extension_missing", source: "CREATE EXTENSION tcn; UPDATE pg_extension SET extname = 'aws_s3' WHERE extname = 'tcn'", typed: onSource("DROP EXTENSION")},
		{code: "extension_version", source: "CREATE EXTENSION pg_trgm SCHEMA ext VERSION '1.5'"},
		{code: "extension_version", source: "CREATE EXTENSION hstore VERSION '1.8'", target: "CREATE EXTENSION hstore VERSION '1.7'"},
		{code: "extension_version", source: "CREATE EXTENSION citext VERSION '1.5'", target: "CREATE EXTENSION citext VERSION '1.6'"},
		{code: "extension_version", source: "CREATE EXTENSION ltree VERSION '1.2'; UPDATE pg_extension SET extversion = '0.1' WHERE extname = 'ltree'",
			target: "CREATE EXTENSION ltree VERSION '1.2'", stays: true},
		{code: "extension_schema", source: "CREATE EXTENSION btree_gin SCHEMA ext", target: "CREATE EXTENSION btree_gin"},
		{code: "extension_schema", source: "CREATE EXTENSION unaccent SCHEMA ext", target: "CREATE EXTENSION unaccent; UPDATE pg_extension SET extrelocatable = false WHERE extname = 'unaccent'"},
		{code: "extension_schema", source: "CREATE EXTENSION adminpack; UPDATE pg_extension SET extnamespace = 'public'::regnamespace WHERE extname = 'adminpack'", also: []string{"extension_not_allowed"}},
		{code: "extension_schema", source: "CREATE EXTENSION btree_gist; ALTER EXTENSION btree_gist SET SCHEMA pg_catalog", target: "CREATE EXTENSION btree_gist"},
		{code: "extension_data_not_readable", source: kept, target: "CREATE EXTENSION tablefunc", left: []string{"extension_data"}},
	} {
		f.removes(t, x)
	}
}

// Only rows that users added to a table of an extension are told, and once.
func TestRowsThatUsersAddedToAnExtensionAreTold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.SourceAdmin, `CREATE EXTENSION tablefunc; CREATE TABLE public.systems (id int, own bool); ALTER EXTENSION tablefunc ADD TABLE public.systems; GRANT SELECT ON public.systems TO PUBLIC;
		UPDATE pg_extension SET extconfig = ARRAY['public.systems'::regclass::oid], extcondition = ARRAY['WHERE NOT own'] WHERE extname = 'tablefunc'`)
	pgtest.Exec(t, f.Target, "CREATE EXTENSION tablefunc")
	pgtest.Exec(t, f.SourceAdmin, "INSERT INTO public.systems VALUES (1, true)")
	require.Empty(t, f.Ask(t, extension.Compare), "what the extension brings is no user's")
	f.removes(t, situation{code: "extension_data", source: "INSERT INTO public.systems VALUES (2, false)", stays: true})
}

// What patterns leave out is made on the target as it is printed, in the source's schema and
// version.
func TestAnExtensionThatIsLeftOutIsMadeAsItIsPrinted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.Source, "CREATE TABLE mail (id int)")
	taken := func(o *inquiry.Options) {
		o.Mode, o.Scope.Taken = inquiry.Copy, &inquiry.Taken{Relations: preflighttest.OIDs(t, f.Source, "public.mail")}
	}
	f.removes(t, situation{code: "extension_left_out", change: []func(*inquiry.Options){taken},
		source: "CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext VERSION '1.5'; ALTER TABLE public.mail ADD address ext.citext[]"})
}
