package e2e_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

// From PostgreSQL 17 on a server makes indexes, fills materialised views and analyses under a
// search_path of its own: check names the functions that find nothing there, for which a copy is
// refused, and with its statements typed all is moved.
func TestMatrixOfExpressions(t *testing.T) {
	dir := matrixDir(t)
	s := sidesOf(t, serversOf(t, dir, 15), serversOf(t, dir, 17))
	s.expressive(t)
	out, code := s.say(t, nil, "copy")
	require.NotEqual(t, 0, code, out)
	require.Contains(t, out, "function plus(integer, integer) does not exist")
	out, code = s.say(t, nil, "clean")
	require.Equal(t, 0, code, out)

	found := s.pathless(t)
	var functions []string
	for _, f := range found {
		functions = append(functions, f.Object)
	}
	require.ElementsMatch(t, []string{"app.factor(text)", "app.twice(integer)"}, functions)
	require.Len(t, s.pathless(t, "--copy"), 2)
	source := pgtest.Conn(t, s.source)
	for _, f := range found {
		require.True(t, strings.HasPrefix(f.SQL, "ALTER FUNCTION "), f.SQL)
		pgtest.Exec(t, source, f.SQL)
	}
	require.Empty(t, s.pathless(t))
	out, code = s.say(t, nil, "copy")
	require.Equal(t, 0, code, out)
	s.requireExpressions(t)
}
