package preflight

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/pg"
	"crossfade/internal/pgcluster/pgtest"
)

func TestPoolerHosts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Empty(t, f.ask(t, "host"))
	found := f.ask(t, "host", func(o *Options) {
		o.SourceHost = "db.example.com"
		o.TargetHost = "ep-cool-night-123456-pooler.eu-central-1.aws.neon.tech"
	})
	require.Equal(t, []seen{{Blocker, "pooler_host", "ep-cool-night-123456-pooler.eu-central-1.aws.neon.tech"}}, short(found))
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

	found := f.ask(t, "version", func(o *Options) {
		o.PgDumpMajor = func(context.Context) (int, error) { return 0, errors.New("executable file not found in $PATH") }
	})
	require.Equal(t, []seen{{Blocker, "pg_dump_missing", "pg_dump"}}, short(found))

	tests := []struct {
		source, target, dump int
		want                 []seen
	}{
		{15, 17, 17, []seen{}},
		{15, 15, 16, []seen{{Info, "pg_dump_newer", "pg_dump"}}},
		{17, 15, 17, []seen{{Blocker, "target_older", "target"}, {Info, "pg_dump_newer", "pg_dump"}}},
		{16, 17, 15, []seen{{Blocker, "pg_dump_older", "pg_dump"}}},
		{11, 17, 17, []seen{{Blocker, "source_too_old", "source"}}},
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
	admin := pgtest.Conn(t, c.AdminDSN("postgres"))
	other := f.targetDSN.Database() + "_latin"
	pgtest.Exec(t, admin, "CREATE DATABASE "+other+" OWNER "+f.targetDSN.User()+" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
	// Registered before the sessions to it are opened, so it runs after they end.
	t.Cleanup(func() {
		conn, err := pg.Connect(context.Background(), c.AdminDSN("postgres"))
		require.NoError(t, err)
		defer func() { _ = conn.Close(context.Background()) }()
		pgtest.Exec(t, conn, "DROP DATABASE "+other+" WITH (FORCE)")
	})
	f.targetDSN = f.targetDSN.WithDatabase(other)
	found := f.ask(t, "encoding")
	require.Equal(t, []seen{{Blocker, "encoding_differs", "target"}}, short(found))
	require.Contains(t, found[0].Detail, "UTF8")
	require.Contains(t, found[0].Detail, "LATIN1")
}

func TestCollations(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.source, `CREATE TABLE word (id int PRIMARY KEY, w text COLLATE "POSIX")`)
	require.Empty(t, f.ask(t, "collation"))

	pgtest.Exec(t, f.targetAdmin, `SET allow_system_table_mods = on; DELETE FROM pg_collation WHERE collname = 'POSIX'`)
	require.Equal(t, []seen{{Blocker, "collation_missing", "public.word"}}, short(f.ask(t, "collation")))

	pgtest.Exec(t, f.targetAdmin, `UPDATE pg_database SET datcollate = 'C.UTF-8' WHERE datname = current_database()`)
	require.Contains(t, short(f.ask(t, "collation")), seen{Warning, "collation_differs", "target"})
}

func TestExtensions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.source, "CREATE EXTENSION pg_trgm")
	require.Empty(t, f.ask(t, "extensions"))

	pgtest.Exec(t, f.sourceAdmin, "CREATE EXTENSION pageinspect")
	require.Equal(t, []seen{{Blocker, "extension_not_allowed", "pageinspect"}}, short(f.ask(t, "extensions")))
	pgtest.Exec(t, f.targetAdmin, "CREATE EXTENSION pageinspect")
	require.Empty(t, f.ask(t, "extensions"), "somebody who may has made it")

	pgtest.Exec(t, f.source, "CREATE TABLE job (id int PRIMARY KEY)")
	pgtest.Exec(t, f.sourceAdmin, `SET allow_system_table_mods = on; UPDATE pg_extension SET extconfig = ARRAY['public.job'::regclass::oid] WHERE extname = 'pg_trgm'`)
	require.Empty(t, f.ask(t, "extensions"))
	pgtest.Exec(t, f.source, "INSERT INTO job VALUES (1)")
	require.Equal(t, []seen{{Warning, "extension_data", "public.job"}}, short(f.ask(t, "extensions")))
	require.Empty(t, f.ask(t, "extensions", copyMode), "a copy has its rows, and follows nothing")
	pgtest.Exec(t, f.source, "TRUNCATE job")

	pgtest.Exec(t, f.sourceAdmin, `SET allow_system_table_mods = on; UPDATE pg_extension SET extversion = '0.1' WHERE extname = 'pg_trgm'`)
	require.Equal(t, []seen{{Warning, "extension_version", "pg_trgm"}}, short(f.ask(t, "extensions")))

	pgtest.Exec(t, f.sourceAdmin, `UPDATE pg_extension SET extname = 'aws_s3' WHERE extname = 'pg_trgm'`)
	require.Equal(t, []seen{{Blocker, "extension_missing", "aws_s3"}}, short(f.ask(t, "extensions")))
}

func TestVersionsOfExtensions(t *testing.T) {
	t.Parallel()
	ours := offer{Name: "x", Default: "1.10", Allowed: true, Versions: []string{"1.10", "1.9", "1.2"}}
	for _, c := range []struct {
		version, installed, detail, remedy string
	}{
		{"1.10", "", "", ""},
		{"1.9", "", "the source has version 1.9, the target makes 1.10", `CREATE EXTENSION "x" VERSION '1.9'`},
		{"1.9", "1.2", "the target's database 1.2", `ALTER EXTENSION "x" UPDATE TO '1.9'`},
		{"1.9", "1.9", "", ""},
		{"1.11", "", "which is older", "bring the extension at the source to a version that the target has: 1.10, 1.9, 1.2"},
		{"1.3", "", "the target makes 1.10", "release notes"},
		{"2024-beta", "", "the target makes 1.10", "release notes"},
	} {
		o := ours
		o.Installed = c.installed
		found := extensionFindings("x", c.version, o, true)
		if c.detail == "" {
			require.Empty(t, found, c.version)
			continue
		}
		require.Len(t, found, 1)
		require.Equal(t, Warning, found[0].Severity)
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
	want := []seen{{Blocker, "role_missing", role}}
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
	require.Empty(t, f.ask(t, "roles of the schema", copyMode, func(o *Options) { o.Scope.NoACL = true }))
	require.Empty(t, f.ask(t, "roles of the schema", copyMode, func(o *Options) { o.PlatformRole = func(name string) bool { return name == role } }))
	require.Equal(t, Warning, f.ask(t, "roles of the schema", copyMode, func(o *Options) { o.Scope.Partial = true })[0].Severity)
	pgtest.Exec(t, f.source, "CREATE POLICY p ON t TO "+role+" USING (true)")
	require.Equal(t, want, short(f.ask(t, "roles of the schema", copyMode, func(o *Options) { o.Scope.NoACL = true })), "a policy is no privilege")

	make := func(o *Options) { o.Mode, o.Scope.MakeRoles = Copy, true }
	pgtest.Exec(t, f.targetAdmin, "ALTER ROLE "+f.targetDSN.User()+" NOCREATEROLE")
	require.Equal(t, []seen{{Blocker, "no_createrole", f.targetDSN.User()}}, short(f.ask(t, "roles of the schema", copyMode, make)))
	pgtest.Exec(t, f.targetAdmin, "ALTER ROLE "+f.targetDSN.User()+" CREATEROLE")
	require.Empty(t, f.ask(t, "roles of the schema", copyMode, make))
	pgtest.Exec(t, f.targetAdmin, "CREATE ROLE "+role)
	t.Cleanup(func() { pgtest.DropRole(t, pgtest.Shared(t, pgtest.Target), f.targetDSN.Database(), role) })
	require.Empty(t, f.ask(t, "roles of the schema", copyMode))
}
