package archive

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPatternsBecomePsqlsExpressions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		`Foo*`:        {"^(foo.*)$"},
		`"Foo*"`:      {`^(Foo\*)$`},
		`a.b?`:        {"^(a)$", "^(b.)$"},
		`"a.b".c`:     {`^(a\.b)$`, "^(c)$"},
		`a""b`:        {`^(ab)$`},
		`"a""b"`:      {`^(a"b)$`},
		`x$y`:         {`^(x\$y)$`},
		`(a|b)`:       {"^((a|b))$"},
		`t[0-9]`:      {"^(t[0-9])$"},
		`t[]`:         {`^(t\[])$`},
		`"t[]"`:       {`^(t\[\])$`},
		`d.s.t`:       {"^(d)$", "^(s)$", "^(t)$"},
		`*.*`:         {"^(.*)$", "^(.*)$"},
		`ÄB`:          {"^(Äb)$"},
		`back\.slash`: {`^(back\)$`, "^(slash)$"},
	} {
		p := parsePattern(text)
		require.Equal(t, want, p.parts, text)
		require.False(t, p.open, text)
	}
	require.True(t, parsePattern(`"a`).open)
}
