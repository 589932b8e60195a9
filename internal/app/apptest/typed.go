package apptest

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/app/watch"
)

// statement returns what a remedy prints to be typed on a side.
func statement(t *testing.T, remedy, side string) string {
	t.Helper()
	_, sql, told := strings.Cut(remedy, "on the "+side+": ")
	require.True(t, told, "there is a statement for the %s in: %s", side, remedy)
	for _, end := range []string{"; or ", " Or ", "; then ", "; and "} {
		sql, _, _ = strings.Cut(sql, end)
	}
	require.NotContains(t, sql, "…")
	return sql
}

// Typed types what a remedy prints for a side, as it is printed.
func Typed(t *testing.T, conn *pgx.Conn, remedy, side string) {
	t.Helper()
	sql := statement(t, remedy, side)
	_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err, sql)
}

// Once requires that exactly one notice is there, of a code, and returns it.
func Once(t *testing.T, found []watch.Notice, code, why string) watch.Notice {
	t.Helper()
	require.Len(t, found, 1, "%s: %v", why, found)
	require.Equal(t, code, found[0].Code, "%s: %s", why, found[0].Detail)
	require.NotEmpty(t, found[0].Remedy)
	require.NotContains(t, found[0].Remedy, "…", "a statement that is cut short cannot be typed")
	return found[0]
}

// ToldAlone requires that an error tells something once, and returns its remedy.
func ToldAlone(t *testing.T, err error, says string) (remedy string) {
	t.Helper()
	require.ErrorContains(t, err, says)
	require.Equal(t, 1, strings.Count(err.Error(), says), err)
	if e, ok := errors.AsType[*control.Error](err); ok {
		return e.Remedy
	}
	return err.Error()
}
