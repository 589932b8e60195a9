package extension

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestExtensions(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.Source, "CREATE EXTENSION pg_trgm")
	require.Empty(t, f.Ask(t, Compare))

	pgtest.Exec(t, f.SourceAdmin, "CREATE EXTENSION pageinspect")
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "extension_not_allowed", "pageinspect"}}, preflighttest.Short(f.Ask(t, Compare)))
	pgtest.Exec(t, f.TargetAdmin, "CREATE EXTENSION pageinspect")
	require.Empty(t, f.Ask(t, Compare), "somebody who may has made it")

	pgtest.Exec(t, f.Source, "CREATE TABLE job (id int PRIMARY KEY)")
	pgtest.Exec(t, f.SourceAdmin, `SET allow_system_table_mods = on; UPDATE pg_extension SET extconfig = ARRAY['public.job'::regclass::oid] WHERE extname = 'pg_trgm'`)
	require.Empty(t, f.Ask(t, Compare))
	pgtest.Exec(t, f.Source, "INSERT INTO job VALUES (1)")
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "extension_data", "public.job"}}, preflighttest.Short(f.Ask(t, Compare)))
	require.Empty(t, f.Ask(t, Compare, preflighttest.CopyMode), "a copy has its rows, and follows nothing")
	pgtest.Exec(t, f.Source, "TRUNCATE job")

	pgtest.Exec(t, f.SourceAdmin, `SET allow_system_table_mods = on; UPDATE pg_extension SET extversion = '0.1' WHERE extname = 'pg_trgm'`)
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "extension_version", "pg_trgm"}}, preflighttest.Short(f.Ask(t, Compare)))

	pgtest.Exec(t, f.SourceAdmin, `UPDATE pg_extension SET extname = 'aws_s3' WHERE extname = 'pg_trgm'`)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "extension_missing", "aws_s3"}}, preflighttest.Short(f.Ask(t, Compare)))
}

func TestVersionsOfExtensions(t *testing.T) {
	t.Parallel()
	ours := offer{Name: "x", Default: "1.10", Allowed: true, Versions: []string{"1.10", "1.9", "1.2"}}
	for _, c := range []struct {
		version, installed, detail, remedy string
		source, target                     []string // can be updated to
	}{
		{"1.10", "", "", "", nil, nil},
		{"1.9", "", "the source has version 1.9, the target makes 1.10", `CREATE EXTENSION "x" SCHEMA "public" VERSION '1.9'`, nil, nil},
		{"1.9", "1.2", "the target's database 1.2", `ALTER EXTENSION "x" UPDATE TO '1.9' in the target`, nil, []string{"1.9"}},
		{"1.9", "1.10", "the target's database 1.10", `ALTER EXTENSION "x" UPDATE TO '1.10' on the source`, []string{"1.10"}, nil},
		{"1.9", "1.10", "the target's database 1.10", `DROP EXTENSION "x"; CREATE SCHEMA IF NOT EXISTS "public"; CREATE EXTENSION "x" SCHEMA "public" VERSION '1.9'`, nil, nil},
		{"1.9", "1.9", "", "", nil, nil},
		{"1.11", "", "which is older", "bring the extension at the source to a version that the target has: 1.10, 1.9, 1.2", nil, nil},
		{"1.3", "", "the target makes 1.10", "release notes", nil, nil},
		{"1.3", "", "the target makes 1.10", `ALTER EXTENSION "x" UPDATE TO '1.10' on the source`, []string{"1.10"}, nil},
		{"2024-beta", "", "the target makes 1.10", "release notes", nil, nil},
	} {
		o := ours
		o.Installed, o.Updates = c.installed, c.target
		found := extensionFindings(extension{Name: "x", Version: c.version, Schema: "public", Updates: c.source}, o, true)
		if c.detail == "" {
			require.Empty(t, found, c.version)
			continue
		}
		require.Len(t, found, 1)
		require.Equal(t, answer.Warning, found[0].Severity)
		require.Contains(t, found[0].Detail, c.detail)
		require.Contains(t, found[0].Remedy, c.remedy)
	}
}

// What an application's objects name by its schema is not found in another one.
func TestExtensionsAreComparedBySchema(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.Source, "CREATE SCHEMA extensions; CREATE EXTENSION citext SCHEMA extensions; CREATE TABLE t (c extensions.citext)")
	require.Empty(t, f.Ask(t, Compare), "it is made in the schema that it has")
	pgtest.Exec(t, f.Target, "CREATE EXTENSION citext SCHEMA public")
	found := f.Ask(t, Compare)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "extension_schema", "citext"}}, preflighttest.Short(found))
	require.Contains(t, found[0].Detail, "in schema extensions, the target's database in public")
	f.Typed(t, found[0])
	require.Empty(t, f.Ask(t, Compare), "the remedy helps")

	// One that cannot be moved.
	pgtest.Exec(t, f.TargetAdmin, "ALTER EXTENSION citext SET SCHEMA public; UPDATE pg_extension SET extrelocatable = false WHERE extname = 'citext'")
	found = f.Ask(t, Compare)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "extension_schema", "citext"}}, preflighttest.Short(found))
	f.Typed(t, found[0])
	require.Empty(t, f.Ask(t, Compare), "the remedy helps")

	// One whose script has a schema of its own.
	fixed, wrong := schemaFinding(extension{Name: "pgx", Version: "1.0", Schema: "public"}, offer{Name: "pgx", Only: "pg_catalog"})
	require.True(t, wrong)
	require.Contains(t, fixed.Detail, "the target can make it in pg_catalog only")
	_, wrong = schemaFinding(extension{Name: "pgx", Version: "1.0", Schema: "pg_catalog"}, offer{Name: "pgx", Only: "pg_catalog"})
	require.False(t, wrong)
}

// What users keep in tables of extensions is read as well, so the right to do so is
// asked for before the run.
func TestRightsOnTablesOfExtensions(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.SourceAdmin, `CREATE EXTENSION pg_trgm; CREATE SCHEMA kept; CREATE TABLE kept.config (id int); CREATE SEQUENCE kept.numbers;
		SET allow_system_table_mods = on;
		UPDATE pg_extension SET extconfig = ARRAY['kept.config'::regclass::oid, 'kept.numbers'::regclass::oid], extcondition = ARRAY['', ''] WHERE extname = 'pg_trgm'`)
	pgtest.Exec(t, f.TargetAdmin, "CREATE EXTENSION pg_trgm")
	t.Cleanup(func() {
		pgtest.Exec(t, f.SourceAdmin, "UPDATE pg_extension SET extconfig = NULL, extcondition = NULL WHERE extname = 'pg_trgm'")
	})
	for _, mode := range []inquiry.Mode{inquiry.Copy, inquiry.Run} {
		in := func(o *inquiry.Options) { o.Mode = mode }
		only := func() (found []answer.Finding) {
			for _, x := range f.Ask(t, Compare, in) {
				if x.Code != "extension_data" {
					found = append(found, x)
				}
			}
			return found
		}
		want := []preflighttest.Seen{{answer.Blocker, "extension_data_not_readable", "kept.config"}, {answer.Blocker, "extension_data_not_readable", "kept.numbers"}}
		require.Equal(t, want, preflighttest.Short(only()), "the schema is closed")
		pgtest.Exec(t, f.SourceAdmin, "GRANT USAGE ON SCHEMA kept TO "+f.SourceDSN.User())
		found := only()
		require.Equal(t, want, preflighttest.Short(found))
		f.Typed(t, found...)
		require.Empty(t, only(), "the remedies help")
		pgtest.Exec(t, f.SourceAdmin, "ALTER TABLE kept.config ENABLE ROW LEVEL SECURITY")
		found = only()
		require.Equal(t, want[:1], preflighttest.Short(found), "its policies would hide rows")
		require.Contains(t, found[0].Detail, "policies would hide rows")
		f.Typed(t, found...)
		require.Empty(t, only(), "the remedy helps")
		pgtest.Exec(t, f.SourceAdmin, "ALTER ROLE "+f.SourceDSN.User()+" NOBYPASSRLS; ALTER TABLE kept.config DISABLE ROW LEVEL SECURITY; REVOKE ALL ON kept.config, kept.numbers FROM "+f.SourceDSN.User()+"; REVOKE ALL ON SCHEMA kept FROM "+f.SourceDSN.User())
	}
	require.Empty(t, f.Ask(t, Compare, func(o *inquiry.Options) { o.Mode, o.Scope.SchemaOnly = inquiry.Copy, true }), "no rows are read")
	require.Empty(t, f.Ask(t, Compare, func(o *inquiry.Options) { o.Mode, o.Scope.Taken = inquiry.Copy, &inquiry.Taken{Everything: true} }), "nor taken along")
}

// Patterns leave extensions out, as with pg_dump; what is copied may need one.
func TestAnExtensionThatPatternsLeaveOut(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.Source, `CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE EXTENSION pg_trgm SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext;
		CREATE TABLE plain (id int); CREATE TABLE mail (address ext.citext[]); CREATE TABLE word (w text); CREATE INDEX ON word USING gin (w ext.gin_trgm_ops)`)
	of := func(names ...string) func(o *inquiry.Options) {
		return func(o *inquiry.Options) {
			o.Mode, o.Scope.Taken = inquiry.Copy, &inquiry.Taken{Relations: preflighttest.OIDs(t, f.Source, names...)}
		}
	}
	require.Empty(t, f.Ask(t, Compare, of("public.plain")))
	for table, name := range map[string]string{"public.mail": "citext", "public.word": "pg_trgm"} {
		found := f.Ask(t, Compare, of(table))
		require.Equal(t, []preflighttest.Seen{{answer.Blocker, "extension_left_out", name}}, preflighttest.Short(found))
		f.Typed(t, found[0])
		require.Empty(t, f.Ask(t, Compare, of(table)), "the remedy helps")
	}
}
