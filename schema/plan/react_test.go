package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/schema/archive"
)

// ownArchive has a table or a domain together with things that it may call.
func ownArchive(e archive.Entry) *archive.Archive {
	return &archive.Archive{Entries: []archive.Entry{
		{ID: 1, Kind: "FUNCTION", Schema: "app", Tag: "known(integer)", Section: archive.SectionPreData, Definition: "CREATE FUNCTION app.known(integer) RETURNS boolean ..."},
		{ID: 2, Kind: "OPERATOR", Schema: "app", Tag: "~>", Section: archive.SectionPreData, Definition: "CREATE OPERATOR app.~> (...);"},
		{ID: 3, Kind: "DOMAIN", Schema: "app", Tag: "d", Section: archive.SectionPreData, Definition: "CREATE DOMAIN app.d AS integer;"},
		e,
		{ID: 9, Kind: "COMMENT", Schema: "app", Tag: "t CONSTRAINT c", Section: archive.SectionNone, Dependencies: []int{8}, Definition: "COMMENT ON CONSTRAINT c ON app.t IS 'x';"},
	}}
}

func TestCheckConstraintsThatReactComeWithTheDecision(t *testing.T) {
	t.Parallel()
	for sql, late := range map[string]bool{
		"CHECK (app.known(id))":                                                  true,
		`CHECK ("app"."known"(id))`:                                              true,
		"CHECK ((id OPERATOR(app.~>) 1))":                                        true,
		"CHECK (((id)::app.d > 0))":                                              true,
		"CHECK ((at <= now()))":                                                  true,
		"CHECK ((day <= CURRENT_DATE))":                                          true,
		"CHECK (((who)::name = CURRENT_USER))":                                   true,
		"CHECK (((at)::date = day))":                                             true, // by the session's TimeZone
		"CHECK ((at > day))":                                                     true,
		"CHECK ((date_trunc('day'::text, at) = at))":                             true,
		"CHECK (((who)::date > '2020-01-01'::date))":                             true, // by the session's DateStyle
		"CHECK ((id > 0)) NO INHERIT":                                            false,
		"CHECK ((app_known > 0))":                                                false,
		"CHECK (((at > '2020-01-01'::timestamp with time zone) AND (at2 > at)))": false,
		"CHECK ((day > '2020-01-01'::date))":                                     false,
		"CHECK (public.st_isvalid(g))":                                           false, // of an extension
		"CHECK (((who)::text = ANY (ARRAY['a'::text, 'now()'::text])))":          false,
		"CHECK ((length((who)::text) < 10))":                                     false,
		`CHECK (("current_date" > 0))`:                                           false,
	} {
		a := ownArchive(archive.Entry{ID: 8, OID: 80, Kind: "TABLE", Schema: "app", Tag: "t", Section: archive.SectionPreData, Definition: `CREATE TABLE app.t (
    id integer DEFAULT 1 NOT NULL,
    who character varying(10) DEFAULT 'a,b'::character varying,
    at timestamp with time zone, at2 timestamp(3) with time zone,
    day date,
    CONSTRAINT a CHECK ((id < 10)),
    CONSTRAINT c ` + sql + `,
    CONSTRAINT z CHECK ((id < 20))
)
WITH (fillfactor='70');
ALTER TABLE ONLY app.t REPLICA IDENTITY FULL;`})
		separate(a)
		plan := New(a)
		if !late {
			require.Len(t, a.Entries, 5, sql)
			require.Contains(t, a.Entries[3].Definition, sql)
			continue
		}
		require.Len(t, a.Entries, 6, sql)
		table, check := a.Entries[3], a.Entries[4]
		require.NotContains(t, table.Definition, "CONSTRAINT c")
		require.Contains(t, table.Definition, "day date,\n    CONSTRAINT a CHECK ((id < 10)),\n    CONSTRAINT z CHECK ((id < 20))\n)\nWITH (fillfactor='70');\nALTER TABLE ONLY app.t REPLICA IDENTITY FULL;")
		require.Equal(t, "ALTER TABLE app.t\n    ADD CONSTRAINT c "+sql+";\n", check.Definition)
		require.Equal(t, Decision, plan.Parts[check.ID], sql)
		require.Equal(t, Last, plan.Parts[9], "the comment on it")
		require.Equal(t, uint32(80), plan.Table(&check))
		require.Equal(t, []string{"c"}, plan.LateChecks())
		added, valid := checkNotValid(check.Definition)
		require.Equal(t, "ALTER TABLE app.t\n    ADD CONSTRAINT c "+sql+" NOT VALID;\n", added)
		require.Equal(t, "ALTER TABLE app.t VALIDATE CONSTRAINT c", valid)
	}
}

func TestConstraintsOfDomainsThatReactComeWithTheDecision(t *testing.T) {
	t.Parallel()
	a := ownArchive(archive.Entry{ID: 8, Kind: "DOMAIN", Schema: "app", Tag: "e", Section: archive.SectionPreData,
		Definition: "CREATE DOMAIN app.e AS timestamp with time zone DEFAULT '2020-01-01'::timestamp with time zone\n\tCONSTRAINT a CHECK ((VALUE > '2020-01-01'::timestamp with time zone))\n\tCONSTRAINT c CHECK (app.known(1))\n\tCONSTRAINT f CHECK ((VALUE < now()));"})
	separate(a)
	require.Equal(t, "CREATE DOMAIN app.e AS timestamp with time zone DEFAULT '2020-01-01'::timestamp with time zone\n\tCONSTRAINT a CHECK ((VALUE > '2020-01-01'::timestamp with time zone));", a.Entries[3].Definition)
	require.Len(t, a.Entries, 7)
	require.Equal(t, "ALTER DOMAIN app.e\n    ADD CONSTRAINT f CHECK ((VALUE < now()));\n", a.Entries[5].Definition)
	require.Equal(t, "ALTER DOMAIN app.e\n    ADD CONSTRAINT c CHECK (app.known(1));\n", a.Entries[6].Definition)
	_, valid := checkNotValid(a.Entries[6].Definition)
	require.Equal(t, "ALTER DOMAIN app.e VALIDATE CONSTRAINT c", valid)
	same, none := checkNotValid("ALTER DOMAIN app.e\n    ADD CONSTRAINT c CHECK (app.known(1)) NOT VALID;\n")
	require.Equal(t, "ALTER DOMAIN app.e\n    ADD CONSTRAINT c CHECK (app.known(1)) NOT VALID;\n", same)
	require.Empty(t, none)
}

// A table that has nothing but such a constraint, and one of a type.
func TestTablesWithoutColumnsKeepTheirForm(t *testing.T) {
	t.Parallel()
	for before, after := range map[string]string{
		"CREATE TABLE app.t (\n    CONSTRAINT c CHECK (app.known(id))\n)\nINHERITS (app.p);":                        "CREATE TABLE app.t (\n    \n)\nINHERITS (app.p);",
		"CREATE TABLE app.t OF app.ty (\n    id WITH OPTIONS NOT NULL,\n    CONSTRAINT c CHECK (app.known(id))\n);": "CREATE TABLE app.t OF app.ty (\n    id WITH OPTIONS NOT NULL\n);",
	} {
		a := ownArchive(archive.Entry{ID: 8, Kind: "TABLE", Schema: "app", Tag: "t", Section: archive.SectionPreData, Definition: before})
		separate(a)
		require.Equal(t, after, a.Entries[3].Definition)
		require.Equal(t, "ALTER TABLE app.t\n    ADD CONSTRAINT c CHECK (app.known(id));\n", a.Entries[4].Definition)
	}
}

func TestCallsOfFunctionsAreSeen(t *testing.T) {
	t.Parallel()
	for sql, calls := range map[string]bool{
		"CREATE INDEX i ON app.t USING btree (app.f(x));":                                 true,
		"CREATE INDEX i ON app.t USING btree (id) WHERE app.f(x);":                        true,
		`ALTER TABLE ONLY app.t ADD CONSTRAINT e EXCLUDE USING gist ("App".f(x) WITH =);`: true,
		"CREATE INDEX i ON app.t USING btree (lower(x));":                                 false,
		"CREATE TABLE app.t (id integer);":                                                false,
		"ALTER TABLE ONLY app.t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES app.u(id);":   false,
	} {
		require.Equal(t, calls, callsFunctions(sql), sql)
	}
}

// PostgreSQL validates no constraint of a domain that is a part of other types, so that one
// stays where the domain is made.
func TestConstraintsOfDomainsWithinOtherTypesStay(t *testing.T) {
	t.Parallel()
	for sql, stays := range map[string]bool{
		"":                                              false,
		"CREATE TABLE app.t (a app.mail);":              false,
		"CREATE DOMAIN app.t AS app.mail;":              false,
		"CREATE TABLE app.t (a app.mail[]);":            true,
		`CREATE TABLE app.t (a "app"."mail"[]);`:        true,
		"CREATE TYPE app.t AS (a app.mail, b integer);": true,
		"CREATE DOMAIN app.t AS app.mail; CREATE TABLE app.u (a app.t[]);": true,
		"CREATE TABLE app.t (a app.mail); CREATE TABLE app.u (a app.t);":   true,
		"CREATE TABLE app.mailing (a app.mailing_id[]);":                   false,
	} {
		domain := archive.Entry{ID: 8, Kind: "DOMAIN", Schema: "app", Tag: "mail", Section: archive.SectionPreData, Definition: "CREATE DOMAIN app.mail AS text\n\tCONSTRAINT c CHECK (app.known((length(VALUE))));"}
		a := ownArchive(domain)
		for i, one := range strings.SplitAfter(sql, ";") {
			words := strings.Fields(one)
			if len(words) < 3 {
				continue
			}
			_, tag, _ := strings.Cut(words[2], ".")
			a.Entries = append(a.Entries, archive.Entry{ID: 20 + i, Kind: words[1], Schema: "app", Tag: tag, Section: archive.SectionPreData, Definition: one})
		}
		separate(a)
		late := slices.ContainsFunc(a.Entries, func(e archive.Entry) bool { return e.Kind == kindCheck })
		require.Equal(t, stays, !late, sql)
		require.Equal(t, stays, strings.Contains(a.Entries[3].Definition, "CONSTRAINT c"), sql)
	}
}
