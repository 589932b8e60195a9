package sqltext_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/sqltext"
)

func TestSplitHeedsParentheses(t *testing.T) {
	t.Parallel()
	var got []string
	for _, s := range sqltext.Split("CREATE RULE r DO (a; b); -- ;\nc;;\n  d") {
		got = append(got, s.Text())
	}
	require.Equal(t, []string{"CREATE RULE r DO (a; b)", "c", "d"}, got)
	require.Empty(t, sqltext.Split("-- *not* creating schema, since initdb creates it\n\n"))
}

func TestIdentifierFoldsAndUnquotes(t *testing.T) {
	t.Parallel()
	s := sqltext.Split(`Abc "D""e" 'f'`)[0]
	name, ok := s.Identifier(0)
	require.True(t, ok)
	require.Equal(t, "abc", name)
	name, ok = s.Identifier(1)
	require.True(t, ok)
	require.Equal(t, `D"e`, name)
	_, ok = s.Identifier(2)
	require.False(t, ok)
	_, ok = s.Identifier(9)
	require.False(t, ok)
}
