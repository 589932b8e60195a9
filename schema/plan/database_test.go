package plan

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/schema/archive"
	"crossfade/schema/roles"
)

func TestPropertiesOfTheDatabaseAreSingleEntries(t *testing.T) {
	t.Parallel()
	a := &archive.Archive{Entries: []archive.Entry{
		entry(7, archive.SectionPreData, "DATABASE", "d", "CREATE DATABASE d;"),
		entry(8, archive.SectionPreData, "DATABASE PROPERTIES", "d", `ALTER DATABASE "d ; 1" CONNECTION LIMIT = 5;
ALTER DATABASE "d ; 1" IS_TEMPLATE = true;
ALTER DATABASE "d ; 1" SET search_path TO 'a', 'b; c';
ALTER DATABASE "d ; 1" SET "app.secret" TO E'it''s \\ one';
ALTER ROLE "Old" IN DATABASE "d ; 1" SET work_mem TO '1MB';
`, 7),
		entry(9, archive.SectionNone, "ACL", "DATABASE d", `GRANT CREATE ON DATABASE "d ; 1" TO "Old";`, 7),
		entry(10, archive.SectionNone, "COMMENT", "DATABASE d", `COMMENT ON DATABASE "d ; 1" IS 'DATABASE d';`, 7),
		entry(11, archive.SectionPreData, "SCHEMA", "s", "CREATE SCHEMA s;"),
	}}
	a.Entries[4].Drop = "DROP SCHEMA s;"
	p := New(a)
	require.Equal(t, []string{"SCHEMA s", "OWNER SCHEMA s"}, tags(p.PreData))
	require.Equal(t, []string{"DATABASE PROPERTIES search_path", "DATABASE PROPERTIES app.secret", "DATABASE PROPERTIES work_mem of role Old",
		"COMMENT DATABASE d", "ACL DATABASE d"}, tags(p.Last))
	ids := map[int]bool{}
	for _, e := range append(p.PreData, p.Last...) {
		require.False(t, ids[e.ID], "the ids of entries of ours are their own")
		ids[e.ID] = true
	}
	w := Rewrite{Database: `new"name`, Roles: map[string]string{"Old": "fresh"}}
	var got []string
	for _, e := range p.Last {
		sql, _ := Definition(e, w)
		got = append(got, sql)
		none, _ := Definition(e, Rewrite{})
		require.Empty(t, none, "without a name the database is left alone")
	}
	require.Equal(t, []string{
		`ALTER DATABASE "new""name" SET search_path TO 'a', 'b; c';`,
		`ALTER DATABASE "new""name" SET "app.secret" TO E'it''s \\ one';`,
		`ALTER ROLE "fresh" IN DATABASE "new""name" SET work_mem TO '1MB';`,
		`COMMENT ON DATABASE "new""name" IS 'DATABASE d';`,
		`GRANT CREATE ON DATABASE "new""name" TO "fresh";`,
	}, got)

	// A setting of a role of the platform is left out, and its value not shown.
	sql, findings := Definition(p.Last[2], Rewrite{Database: "d", Roles: nil})
	require.Contains(t, sql, "work_mem")
	require.Empty(t, findings)
	sql, findings = Definition(&archive.Entry{Kind: KindProperties, Definition: `ALTER ROLE rdsadmin IN DATABASE d SET "app.secret" TO 'geheim';`}, w)
	require.NotContains(t, sql, "geheim")
	require.Len(t, findings, 1)
	require.NotContains(t, findings[0].String(), "geheim")
}

func TestOwnersComeFromTheStatementsThatDrop(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, drop, want string }{
		{"TABLE", `DROP TABLE "a ; b"."c DROP";`, `ALTER TABLE "a ; b"."c DROP" OWNER TO`},
		{"FUNCTION", "DROP FUNCTION s.f(integer, text);", "ALTER FUNCTION s.f(integer, text) OWNER TO"},
		{"TYPE", "DROP TYPE s.base CASCADE;", "ALTER TYPE s.base OWNER TO"},
		{"OPERATOR", "DROP OPERATOR s.@#@ (NONE, integer);", "ALTER OPERATOR s.@#@ (NONE, integer) OWNER TO"},
		{"OPERATOR CLASS", "DROP OPERATOR CLASS s.c USING btree;", "ALTER OPERATOR CLASS s.c USING btree OWNER TO"},
		{"PROCEDURAL LANGUAGE", "DROP PROCEDURAL LANGUAGE l;", "ALTER PROCEDURAL LANGUAGE l OWNER TO"},
		{"SCHEMA", "-- *not* dropping schema, since initdb creates it\n", `ALTER SCHEMA "tag" OWNER TO`},
		{"SEQUENCE", "", ""}, // of an identity column, which has its table's
		{"INDEX", "DROP INDEX s.i;", ""},
		{"CAST", "DROP CAST (a AS b);", ""},
	} {
		e, ok := OwnerEntry(&archive.Entry{ID: 3, Kind: c.kind, Tag: "tag", Schema: "s", Owner: "o", Drop: c.drop})
		require.Equal(t, c.want != "", ok, c.kind)
		require.Equal(t, c.want, e.Definition, c.kind)
	}
	e, ok := OwnerEntry(&archive.Entry{ID: 3, Kind: "TABLE", Tag: "t", Schema: `s'"`, Owner: "old", Drop: "DROP TABLE s.t;"})
	require.True(t, ok)
	require.Equal(t, -3, e.ID)
	require.Empty(t, ownerSQL(&e, Owners{}))
	require.Equal(t, `ALTER TABLE s.t OWNER TO "new"`, ownerSQL(&e, Owners{Roles: map[string]string{"old": "new"}, Super: true}))
	require.Equal(t, `DO 'BEGIN IF pg_catalog.has_schema_privilege(''new'', ''s''''"'', ''CREATE'') THEN ALTER TABLE s.t OWNER TO "new"; `+
		`ELSE GRANT CREATE ON SCHEMA "s''""" TO "new"; ALTER TABLE s.t OWNER TO "new"; REVOKE CREATE ON SCHEMA "s''""" FROM "new"; END IF; END'`,
		ownerSQL(&e, Owners{Roles: map[string]string{"old": "new"}}))
}

func TestValuesOfSettingsAreWrittenAsPgDumpDoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, value, want string }{
		{"work_mem", "1MB", "'1MB'"},
		{"app.x", `it's \ one`, ` E'it''s \\ one'`},
		{"search_path", `"$user", public`, `'$user', 'public'`},
		{"search_path", `"a "", b" , c`, `'a ", b', 'c'`},
		{"search_path", `""`, `''`},
		{"search_path", ``, `''`},
		{"DateStyle", "ISO, DMY", "'ISO, DMY'"},
	} {
		require.Equal(t, c.want, roles.SettingValue(c.name, c.value), c.value)
	}
}
