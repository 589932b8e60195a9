package pg_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// others are values of the settings that are not those of our sessions, as an
// application may have set them for its database or role.
var others = map[string]string{
	"DateStyle": "German, DMY", "IntervalStyle": "iso_8601", "TimeZone": "Asia/Kathmandu", "timezone_abbreviations": "Australia",
	"extra_float_digits": "-5", "bytea_output": "escape", "lc_monetary": "C.UTF-8", "xmlbinary": "hex", "xmloption": "document",
	"array_nulls": "off", "quote_all_identifiers": "on", "search_path": "public, pg_catalog", "standard_conforming_strings": "off",
	"backslash_quote": "on", "escape_string_warning": "on", "transform_null_equals": "on",
}

const readSettings = `SELECT pg_catalog.string_agg(pg_catalog.lower(name) || '=' || setting, E'\n' ORDER BY name) FROM pg_catalog.pg_settings WHERE pg_catalog.lower(name) IN (`

func TestWhatDatabasesAndRolesSetDoesNotReachTheTextOfValues(t *testing.T) {
	t.Parallel()
	require.ElementsMatch(t, slices.Collect(maps.Keys(pg.TextSettings())), slices.Collect(maps.Keys(others)))
	c := pgtest.Shared(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	admin := pgtest.Conn(t, c.AdminDSN("postgres"))
	var names, want []string
	for i, name := range slices.Sorted(maps.Keys(others)) {
		of := "DATABASE " + pg.QuoteIdent(dsn.Database())
		if i%2 == 0 {
			of = "ROLE " + pg.QuoteIdent(dsn.User()) + " IN " + of
		}
		value := pg.QuoteLiteral(others[name])
		if name == "search_path" {
			value = others[name]
		}
		pgtest.Exec(t, admin, "ALTER "+of+" SET "+name+" = "+value)
		names = append(names, pg.QuoteLiteral(strings.ToLower(name)))
		want = append(want, strings.ToLower(name)+"="+pg.TextSettings()[name])
	}
	slices.SortFunc(want, func(a, b string) int { return strings.Compare(a, b) })
	sql := readSettings + strings.Join(names, ", ") + ")"
	sorted := func(text string) []string { return slices.Sorted(slices.Values(strings.Split(text, "\n"))) }

	conn, err := pg.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	require.Equal(t, want, sorted(pgtest.Value(t, conn, sql)), "a session")

	repl, err := pg.ConnectReplication(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { _ = repl.Close(t.Context()) }()
	res, err := repl.Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err)
	require.Equal(t, want, sorted(string(res[0].Rows[0][0])), "a walsender")

	// A session whose start-up options were dropped on the way.
	bare, err := pgx.ConnectConfig(t.Context(), dsn.Config())
	require.NoError(t, err)
	defer func() { _ = bare.Close(t.Context()) }()
	require.NotEqual(t, want, sorted(pgtest.Value(t, bare, sql)))
	_, err = bare.PgConn().Exec(t.Context(), pg.PinSQL()).ReadAll()
	require.NoError(t, err)
	require.Equal(t, want, sorted(pgtest.Value(t, bare, sql)), "a session behind a pooler")
}

func TestSettingsOfTextAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/operate/values.md")
	require.NoError(t, err)
	for name, value := range pg.TextSettings() {
		require.Contains(t, string(page), "| `"+name+"` | `"+value+"` |")
	}
}
