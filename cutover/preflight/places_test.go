package preflight

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestPoolerHosts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Empty(t, f.ask(t, "host"))
	found := f.ask(t, "host", func(o *inquiry.Options) {
		o.SourceHost = "db.example.com"
		o.TargetHost = "ep-cool-night-123456-pooler.eu-central-1.aws.neon.tech"
	})
	require.Equal(t, []seen{{answer.Blocker, "pooler_host", "ep-cool-night-123456-pooler.eu-central-1.aws.neon.tech"}}, short(found))
	require.Contains(t, found[0].Remedy, " ep-cool-night-123456.eu-central-1.aws.neon.tech")

	for _, host := range []string{"", "localhost", "my-pooler", "/run/postgresql", "a.b-pooler.example.com", "pooler.example.com"} {
		_, pooled := directHost(host)
		require.False(t, pooled, host)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Empty(t, f.ask(t, "version"))

	found := f.ask(t, "version", func(o *inquiry.Options) {
		o.PgDumpMajor = func(context.Context) (int, error) { return 0, errors.New("executable file not found in $PATH") }
	})
	require.Equal(t, []seen{{answer.Blocker, "pg_dump_missing", "pg_dump"}}, short(found))

	tests := []struct {
		source, target, dump int
		want                 []seen
	}{
		{15, 17, 17, []seen{}},
		{15, 15, 16, []seen{{answer.Info, "pg_dump_newer", "pg_dump"}}},
		{17, 15, 17, []seen{{answer.Blocker, "target_older", "target"}, {answer.Info, "pg_dump_newer", "pg_dump"}}},
		{16, 17, 15, []seen{{answer.Blocker, "pg_dump_older", "pg_dump"}}},
		{11, 17, 17, []seen{{answer.Blocker, "source_too_old", "source"}}},
		{12, 17, 17, []seen{}},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, short(versionFindings(tt.source, tt.target, tt.dump)), "%+v", tt)
	}
}

func TestEncodings(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Empty(t, f.ask(t, "encoding"))

	c := pgtest.Shared(t, pgtest.Target)
	other := f.targetDSN.Database() + "_latin"
	pgtest.DatabaseAs(t, c, other, f.targetDSN.User(), "ENCODING 'LATIN1' LOCALE 'C'")
	f.targetDSN = f.targetDSN.WithDatabase(other)
	found := f.ask(t, "encoding")
	require.Equal(t, []seen{{answer.Blocker, "encoding_differs", "target"}}, short(found))
	require.Contains(t, found[0].Detail, "UTF8")
	require.Contains(t, found[0].Detail, "LATIN1")
}

func TestCollations(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.source, `CREATE TABLE word (id int PRIMARY KEY, w text COLLATE "POSIX")`)
	require.Empty(t, f.ask(t, "collation"))

	pgtest.Exec(t, f.targetAdmin, `SET allow_system_table_mods = on; DELETE FROM pg_collation WHERE collname = 'POSIX'`)
	require.Equal(t, []seen{{answer.Blocker, "collation_missing", "public.word"}}, short(f.ask(t, "collation")))

	pgtest.Exec(t, f.targetAdmin, `UPDATE pg_database SET datcollate = 'C.UTF-8' WHERE datname = current_database()`)
	require.Contains(t, short(f.ask(t, "collation")), seen{answer.Warning, "collation_differs", "target"})
}

func TestExtensions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.source, "CREATE EXTENSION pg_trgm")
	require.Empty(t, f.ask(t, "extensions"))

	pgtest.Exec(t, f.sourceAdmin, "CREATE EXTENSION pageinspect")
	require.Equal(t, []seen{{answer.Blocker, "extension_not_allowed", "pageinspect"}}, short(f.ask(t, "extensions")))
	pgtest.Exec(t, f.targetAdmin, "CREATE EXTENSION pageinspect")
	require.Empty(t, f.ask(t, "extensions"), "somebody who may has made it")

	pgtest.Exec(t, f.source, "CREATE TABLE job (id int PRIMARY KEY)")
	pgtest.Exec(t, f.sourceAdmin, `SET allow_system_table_mods = on; UPDATE pg_extension SET extconfig = ARRAY['public.job'::regclass::oid] WHERE extname = 'pg_trgm'`)
	require.Empty(t, f.ask(t, "extensions"))
	pgtest.Exec(t, f.source, "INSERT INTO job VALUES (1)")
	require.Equal(t, []seen{{answer.Warning, "extension_data", "public.job"}}, short(f.ask(t, "extensions")))
	require.Empty(t, f.ask(t, "extensions", copyMode), "a copy has its rows, and follows nothing")
	pgtest.Exec(t, f.source, "TRUNCATE job")

	pgtest.Exec(t, f.sourceAdmin, `SET allow_system_table_mods = on; UPDATE pg_extension SET extversion = '0.1' WHERE extname = 'pg_trgm'`)
	require.Equal(t, []seen{{answer.Warning, "extension_version", "pg_trgm"}}, short(f.ask(t, "extensions")))

	pgtest.Exec(t, f.sourceAdmin, `UPDATE pg_extension SET extname = 'aws_s3' WHERE extname = 'pg_trgm'`)
	require.Equal(t, []seen{{answer.Blocker, "extension_missing", "aws_s3"}}, short(f.ask(t, "extensions")))
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

// What privileges and policies name must be there, unless it is made, left out, or
// a platform's.
func TestRolesThatTheSchemaNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Empty(t, f.ask(t, "roles of the schema", copyMode))
	role := "named_" + f.sourceDSN.User()
	pgtest.Exec(t, f.sourceAdmin, "CREATE ROLE "+role)
	t.Cleanup(func() { pgtest.DropRole(t, pgtest.Shared(t, pgtest.Source), f.sourceDSN.Database(), role) })
	pgtest.Exec(t, f.source, "CREATE TABLE t (id int, v text)")
	want := []seen{{answer.Blocker, "role_missing", role}}
	for _, right := range []string{"SELECT ON t", "UPDATE (v) ON t", "USAGE ON SCHEMA public"} {
		pgtest.Exec(t, f.sourceAdmin, "GRANT "+right+" TO "+role)
		require.Equal(t, want, short(f.ask(t, "roles of the schema", copyMode)), right)
		pgtest.Exec(t, f.sourceAdmin, "REVOKE "+right+" FROM "+role)
		require.Empty(t, f.ask(t, "roles of the schema", copyMode), right)
	}
	// An owner's own rights, which stand beside those of others, are no grant.
	pgtest.Exec(t, f.sourceAdmin, "CREATE TABLE owned (id int); ALTER TABLE owned OWNER TO "+role+"; GRANT SELECT ON owned TO "+f.sourceDSN.User())
	pgtest.Exec(t, f.sourceAdmin, "ALTER SCHEMA public OWNER TO "+role)
	require.Empty(t, f.ask(t, "roles of the schema", copyMode))
	pgtest.Exec(t, f.sourceAdmin, "REVOKE INSERT ON owned FROM "+role)
	require.Equal(t, want, short(f.ask(t, "roles of the schema", copyMode)), "what its owner has lost is written down with its name")
	pgtest.Exec(t, f.sourceAdmin, "DROP TABLE owned; ALTER SCHEMA public OWNER TO "+f.sourceDSN.User())
	pgtest.Exec(t, f.source, "GRANT SELECT ON t TO "+role)
	require.Empty(t, f.ask(t, "roles of the schema", copyMode, func(o *inquiry.Options) { o.Scope.NoACL = true }))
	require.Empty(t, f.ask(t, "roles of the schema", copyMode, func(o *inquiry.Options) { o.PlatformRole = func(name string) bool { return name == role } }))
	require.Empty(t, f.ask(t, "roles of the schema", copyMode, func(o *inquiry.Options) { o.Scope.Taken = &inquiry.Taken{} }), "the table is not taken along")
	pgtest.Exec(t, f.source, "CREATE POLICY p ON t TO "+role+" USING (true)")
	require.Equal(t, want, short(f.ask(t, "roles of the schema", copyMode, func(o *inquiry.Options) { o.Scope.NoACL = true })), "a policy is no privilege")

	make := func(o *inquiry.Options) { o.Mode, o.Scope.MakeRoles = inquiry.Copy, true }
	pgtest.Exec(t, f.targetAdmin, "ALTER ROLE "+f.targetDSN.User()+" NOCREATEROLE")
	require.Equal(t, []seen{{answer.Blocker, "no_createrole", f.targetDSN.User()}}, short(f.ask(t, "roles of the schema", copyMode, make)))
	pgtest.Exec(t, f.targetAdmin, "ALTER ROLE "+f.targetDSN.User()+" CREATEROLE")
	require.Empty(t, f.ask(t, "roles of the schema", copyMode, make))
	pgtest.Exec(t, f.targetAdmin, "CREATE ROLE "+role)
	t.Cleanup(func() { pgtest.DropRole(t, pgtest.Shared(t, pgtest.Target), f.targetDSN.Database(), role) })
	require.Empty(t, f.ask(t, "roles of the schema", copyMode))
}

// What an application's objects name by its schema is not found in another one.
func TestExtensionsAreComparedBySchema(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.source, "CREATE SCHEMA extensions; CREATE EXTENSION citext SCHEMA extensions; CREATE TABLE t (c extensions.citext)")
	require.Empty(t, f.ask(t, "extensions"), "it is made in the schema that it has")
	pgtest.Exec(t, f.target, "CREATE EXTENSION citext SCHEMA public")
	found := f.ask(t, "extensions")
	require.Equal(t, []seen{{answer.Blocker, "extension_schema", "citext"}}, short(found))
	require.Contains(t, found[0].Detail, "in schema extensions, the target's database in public")
	f.typed(t, found[0])
	require.Empty(t, f.ask(t, "extensions"), "the remedy helps")

	// One that cannot be moved.
	pgtest.Exec(t, f.targetAdmin, "ALTER EXTENSION citext SET SCHEMA public; UPDATE pg_extension SET extrelocatable = false WHERE extname = 'citext'")
	found = f.ask(t, "extensions")
	require.Equal(t, []seen{{answer.Blocker, "extension_schema", "citext"}}, short(found))
	f.typed(t, found[0])
	require.Empty(t, f.ask(t, "extensions"), "the remedy helps")

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
	f := newFixture(t)
	pgtest.Exec(t, f.sourceAdmin, `CREATE EXTENSION pg_trgm; CREATE SCHEMA kept; CREATE TABLE kept.config (id int); CREATE SEQUENCE kept.numbers;
		SET allow_system_table_mods = on;
		UPDATE pg_extension SET extconfig = ARRAY['kept.config'::regclass::oid, 'kept.numbers'::regclass::oid], extcondition = ARRAY['', ''] WHERE extname = 'pg_trgm'`)
	pgtest.Exec(t, f.targetAdmin, "CREATE EXTENSION pg_trgm")
	t.Cleanup(func() {
		pgtest.Exec(t, f.sourceAdmin, "UPDATE pg_extension SET extconfig = NULL, extcondition = NULL WHERE extname = 'pg_trgm'")
	})
	for _, mode := range []inquiry.Mode{inquiry.Copy, inquiry.Run} {
		in := func(o *inquiry.Options) { o.Mode = mode }
		only := func() (found []answer.Finding) {
			for _, x := range f.ask(t, "extensions", in) {
				if x.Code != "extension_data" {
					found = append(found, x)
				}
			}
			return found
		}
		want := []seen{{answer.Blocker, "extension_data_not_readable", "kept.config"}, {answer.Blocker, "extension_data_not_readable", "kept.numbers"}}
		require.Equal(t, want, short(only()), "the schema is closed")
		pgtest.Exec(t, f.sourceAdmin, "GRANT USAGE ON SCHEMA kept TO "+f.sourceDSN.User())
		found := only()
		require.Equal(t, want, short(found))
		f.typed(t, found...)
		require.Empty(t, only(), "the remedies help")
		pgtest.Exec(t, f.sourceAdmin, "ALTER TABLE kept.config ENABLE ROW LEVEL SECURITY")
		found = only()
		require.Equal(t, want[:1], short(found), "its policies would hide rows")
		require.Contains(t, found[0].Detail, "policies would hide rows")
		f.typed(t, found...)
		require.Empty(t, only(), "the remedy helps")
		pgtest.Exec(t, f.sourceAdmin, "ALTER ROLE "+f.sourceDSN.User()+" NOBYPASSRLS; ALTER TABLE kept.config DISABLE ROW LEVEL SECURITY; REVOKE ALL ON kept.config, kept.numbers FROM "+f.sourceDSN.User()+"; REVOKE ALL ON SCHEMA kept FROM "+f.sourceDSN.User())
	}
	require.Empty(t, f.ask(t, "extensions", func(o *inquiry.Options) { o.Mode, o.Scope.SchemaOnly = inquiry.Copy, true }), "no rows are read")
	require.Empty(t, f.ask(t, "extensions", func(o *inquiry.Options) { o.Mode, o.Scope.Taken = inquiry.Copy, &inquiry.Taken{Everything: true} }), "nor taken along")
}

// encoded is a fresh database of the source's cluster in another encoding.
func (f *fixture) encoded(t *testing.T, encoding string) {
	t.Helper()
	c := pgtest.Shared(t, pgtest.Source)
	other := f.sourceDSN.Database() + "_" + strings.ToLower(encoding)
	pgtest.DatabaseAs(t, c, other, f.sourceDSN.User(), "ENCODING '"+encoding+"' LOCALE 'C'")
	f.sourceDSN = f.sourceDSN.WithDatabase(other)
	f.source, f.sourceAdmin = pgtest.Conn(t, f.sourceDSN), pgtest.Conn(t, c.AdminDSN(other))
}

func TestEncodingsThatACopyConverts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.encoded(t, "LATIN1")
	pgtest.Exec(t, f.source, "CREATE TABLE word (w text); INSERT INTO word VALUES ('Grün'), ('"+" ÿ"+"')")
	found := f.ask(t, "encoding", copyMode)
	require.Equal(t, []seen{{answer.Warning, "encoding_converted", "source"}}, short(found))
	require.Contains(t, found[0].Detail, "LATIN1")
	found = f.ask(t, "encoding")
	require.Equal(t, []seen{{answer.Blocker, "encoding_differs", "target"}}, short(found), "a run compares bytes")
	require.Contains(t, found[0].Remedy, "crossfade copy")
}

func TestBytesThatAreNoCharactersAreNamedWithTheirRow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.encoded(t, "SQL_ASCII")
	pgtest.Exec(t, f.source, `CREATE TABLE word (id int PRIMARY KEY, w text, x int); INSERT INTO word SELECT n, 'plain', 1 FROM generate_series(1, 300) n;
		CREATE TABLE keyless (a text[]); CREATE TABLE left_out (w text)`)
	require.Equal(t, []seen{{answer.Warning, "encoding_converted", "source"}}, short(f.ask(t, "encoding", copyMode)), "whose bytes are valid")
	pgtest.Exec(t, f.source, `UPDATE word SET w = convert_from('\x477266fc6e', 'SQL_ASCII') WHERE id IN (7, 200);
		INSERT INTO keyless VALUES (ARRAY['a', convert_from('\xe9', 'SQL_ASCII')]); INSERT INTO left_out VALUES (convert_from('\xe9', 'SQL_ASCII'))`)
	taken := func(o *inquiry.Options) {
		o.Mode, o.Scope.Taken = inquiry.Copy, &inquiry.Taken{Relations: oids(t, f.source, "public.word", "public.keyless", "public.left_out"), WithoutRows: oids(t, f.source, "public.left_out")}
	}
	found := f.ask(t, "encoding", taken)
	require.ElementsMatch(t, []seen{{answer.Warning, "encoding_converted", "source"}, {answer.Blocker, "encoding_invalid", "public.word"}, {answer.Blocker, "encoding_invalid", "public.keyless"}}, short(found))
	for range 2 {
		for _, x := range f.ask(t, "encoding", taken) {
			switch x.Object {
			case "public.word":
				require.Contains(t, x.Detail, "key (", "it is named by its key")
				require.Contains(t, x.Detail, "column w")
				f.typed(t, x)
			case "public.keyless":
				require.Contains(t, x.Detail, "ctid (0,1), column a")
				pgtest.Exec(t, f.source, "DELETE FROM keyless")
			}
		}
	}
	require.Equal(t, []seen{{answer.Warning, "encoding_converted", "source"}}, short(f.ask(t, "encoding", taken)), "the remedy helps, a row at a time")
	require.Equal(t, "2", pgtest.Value(t, f.source, `SELECT count(*) FROM word WHERE convert_to(w, 'SQL_ASCII') = '\x477266c3bc6e'`))
}
