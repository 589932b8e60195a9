package sqltext_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"crossfade/internal/base/sqltext"
)

func TestShapeShowsNamesAndNoValues(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"UPDATE hot\n\tSET n = n + 1  WHERE id = 42":               "UPDATE hot SET n = n + ? WHERE id = ?",
		"ALTER ROLE app PASSWORD 's3cr''et' VALID UNTIL 'x'":       "ALTER ROLE app PASSWORD ? VALID UNTIL ?",
		`SELECT E'it\'s s3cret', 'b'`:                              "SELECT E?, ?",
		`INSERT INTO t1 VALUES ($1, $tag$s3cret$tag$, $$s3cret$$)`: "INSERT INTO t1 VALUES ($1, ?, ?)",
		`LOCK TABLE "Odd Name" -- s3cret` + "\n IN SHARE MODE":     `LOCK TABLE "Odd Name" IN SHARE MODE`,
		`SELECT 'a\', 's3cret', 'b'`:                               "SELECT ?",
		`SELECT 'a\'', 's3cret', 'b\' || s3cret`:                   "SELECT ?",
		`SELECT 'a\\', b, 's3cret', E'\\', E'\\\'s3cret'`:          "SELECT ?, b, ?, E?, E?",
		"SELECT /* a /* s3cret */ b */ 1e5, 0x1F":                  "SELECT ?, ?",
		"INSERT INTO t VALUES ('s3cret that is cut o":              "INSERT INTO t VALUES (?",
		"COMMIT": "COMMIT",
		"":       "",
	} {
		got := sqltext.Shape(sql, 200)
		require.Equal(t, want, got)
		require.NotContains(t, got, "s3cr")
	}
	require.Equal(t, "SELECT aaaaa…", sqltext.Shape("SELECT "+strings.Repeat("a", 100), 12))
}

func TestShapeTakesAnyText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := "s3cret"
		text := rapid.StringOf(rapid.RuneFrom([]rune(`'"$\/*- aE1`+"\n"))).Draw(t, "text")
		_ = sqltext.Shape(text, 50)
		before := rapid.StringOf(rapid.RuneFrom([]rune("\\'aE ,"))).Draw(t, "before")
		standard := "SELECT '" + strings.ReplaceAll(before, "'", "''") + "', '" + secret + "', '" + strings.ReplaceAll(text, "'", "''") + "'"
		require.NotContains(t, sqltext.Shape(standard, 1000), secret, standard) // where backslashes mean themselves
		require.NotContains(t, sqltext.Shape("SELECT '"+strings.ReplaceAll(secret+text, "'", "''")+"'", 1000), secret)
	})
}
