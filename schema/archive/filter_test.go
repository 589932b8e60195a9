package archive_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/archive"
	"crossfade/schema/pairtest"
)

func TestFilterRefusesWhatMatchesNothing(t *testing.T) {
	t.Parallel()
	require.NoError(t, archive.Filter{IncludeSchemas: []string{"a"}, ExcludeTables: []string{"a.b", "d.a.b"}}.Validate())
	err := archive.Filter{IncludeSchemas: []string{"a.b.c"}, ExcludeTables: []string{`"x`, " "}, ExcludeTablesData: []string{"a.b.c.d"}}.Validate()
	for _, want := range []string{"--include-schema a.b.c", `--exclude-table "x`, "pattern is empty", "--exclude-table-data a.b.c.d"} {
		require.ErrorContains(t, err, want)
	}
}

// The rows that we leave out are those of the tables that pg_dump would pick.
func TestTablesWithoutDataAreThoseOfPgDump(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	pgtest.Exec(t, pgtest.Conn(t, p.Source), `CREATE SCHEMA app; CREATE SCHEMA "App"; CREATE SCHEMA "a.b";
		CREATE TABLE public.t1 (); CREATE TABLE public.t2 (); CREATE TABLE public."T1" (); CREATE TABLE public."x$y" ();
		CREATE TABLE app.t1 (); CREATE TABLE app.long_name (); CREATE TABLE app."dot.ted" (); CREATE TABLE "App".t1 (); CREATE TABLE "a.b".c ();
		CREATE TABLE app.parted (a int) PARTITION BY LIST (a); CREATE TABLE app.parted_1 PARTITION OF app.parted DEFAULT;
		CREATE VIEW app.v AS SELECT 1 AS a; CREATE SEQUENCE app.s; CREATE MATERIALIZED VIEW app.m AS SELECT 1 AS a`)
	// Without a schema a pattern is for what the search path shows: app is before public.
	pgtest.Exec(t, pgtest.Conn(t, p.Admin), `ALTER DATABASE `+p.Source.Database()+` SET search_path = app, public`)
	names := pgtest.Conn(t, p.Source)
	for _, pattern := range []string{"t1", "t*", `"T1"`, "T1", "app.*", "(app|a).t1", "app.t?", "App.t1", `"App".*`, `"a.b".c`, "a*.*", "x$y", "(t1|t2)", "t[12]",
		`app."dot.ted"`, "app.long_?ame", "app.parted", p.Source.Database() + ".app.t1"} {
		taken, err := archive.Filter{ExcludeTablesData: []string{pattern}}.Take(t.Context(), p.Source)
		require.NoError(t, err, pattern)
		got := map[uint32]bool{}
		for _, oid := range taken.WithoutRows {
			got[oid] = true
		}
		data, err := archive.Dump(t.Context(), archive.DumpConfig{DSN: p.Source, Filter: archive.Filter{IncludeTables: []string{pattern}}})
		require.NoError(t, err, pattern)
		a, err := archive.Parse(data)
		require.NoError(t, err)
		want := map[uint32]bool{}
		for _, e := range a.Entries {
			if e.Kind == "TABLE" || e.Kind == "VIEW" || e.Kind == "SEQUENCE" || e.Kind == "MATERIALIZED VIEW" {
				want[e.OID] = true
			}
		}
		require.NotEmpty(t, want, pattern)
		require.Equal(t, want, got, "%s: %s", pattern, pgtest.Value(t, names, `SELECT string_agg(oid::regclass::text, ' ') FROM pg_class WHERE oid = ANY ($1)`, keys(got)))
	}
	none, err := archive.Filter{ExcludeTablesData: []string{"nothing"}}.Take(t.Context(), p.Source)
	require.NoError(t, err)
	require.Empty(t, none.WithoutRows)
	_, err = archive.Dump(t.Context(), archive.DumpConfig{DSN: p.Source, Filter: archive.Filter{IncludeSchemas: []string{"nothing"}}})
	require.ErrorContains(t, err, "no matching schemas")
}

func keys(m map[uint32]bool) (out []uint32) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

func TestDumpHeedsTheFilter(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	p.LoadObjects(t)
	kinds := func(cfg archive.DumpConfig) map[string]int {
		cfg.DSN = p.Source
		data, err := archive.Dump(t.Context(), cfg)
		require.NoError(t, err)
		a, err := archive.Parse(data)
		require.NoError(t, err)
		out := map[string]int{}
		for _, e := range a.Entries {
			out[e.Kind]++
			if e.Kind == "TABLE" {
				out[pg.Name{Schema: e.Schema, Name: e.Tag}.Display()]++
			}
		}
		return out
	}
	all := kinds(archive.DumpConfig{})
	require.Positive(t, all["ACL"])
	require.Positive(t, all["COMMENT"])
	require.Zero(t, kinds(archive.DumpConfig{NoACL: true})["ACL"])
	require.Zero(t, kinds(archive.DumpConfig{NoComments: true})["COMMENT"])
	require.Zero(t, kinds(archive.DumpConfig{Filter: archive.Filter{ExcludeSchemas: []string{"app"}}})["app.customer"])
	some := kinds(archive.DumpConfig{Filter: archive.Filter{IncludeTables: []string{"app.cust*", "app.event*"}, ExcludeTables: []string{"app.event_20*"}}})
	require.Equal(t, 1, some["app.customer"])
	require.Equal(t, 1, some["app.event_rest"])
	require.Zero(t, some["app.event_2024"])
	require.Zero(t, some["FUNCTION"])
}
