package sqltext_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/sqltext"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, sql string
		want      []string
	}{
		{"words and punctuation", `ALTER TABLE s."t;"`, []string{"ALTER", "TABLE", "s", ".", `"t;"`}},
		{"doubled quotes", `'it''s;' "a""b;"`, []string{`'it''s;'`, `"a""b;"`}},
		{"backslash is itself in a plain string", `'a\' ;`, []string{`'a\'`, ";"}},
		{"backslash escapes in an escape string", `E'a\';' ;`, []string{`E'a\';'`, ";"}},
		{"dollar quotes", `$f$ ; $$ ' $f$ x`, []string{"$f$ ; $$ ' $f$", "x"}},
		{"empty tag", `$$;$$;`, []string{"$$;$$", ";"}},
		{"parameter is no quotation", `$1;$1`, []string{"$1", ";", "$1"}},
		{"dollar in a word", `a$b$c ; d`, []string{"a$b$c", ";", "d"}},
		{"line comment", "a -- b ; '\nc", []string{"a", "c"}},
		{"comments nest", "a /* b /* ; */ ' */ c", []string{"a", "c"}},
		{"unicode strings", `U&'d\0061;' u&"x;" y`, []string{`U&'d\0061;'`, `u&"x;"`, "y"}},
		{"unended string", `a 'b;`, []string{"a", "'b;"}},
		{"unended comment", `a /* b`, []string{"a"}},
		{"non-ASCII word", `bıgınt;`, []string{"bıgınt", ";"}},
		{"a string goes on after a line's end", "'a'\n 'b' 'c'", []string{"'a'\n 'b'", "'c'"}},
		{"a comment ends the line", "E'a' -- x\n'\\' b' c", []string{"E'a' -- x\n'\\' b'", "c"}},
		{"no line's end, no going on", "'a' /*\n*/ 'b'", []string{"'a'", "'b'"}},
		{"numbers", `1.5e3, 7`, []string{"1.5e3", ",", "7"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, tok := range sqltext.All(c.sql) {
				got = append(got, c.sql[tok.Start:tok.End])
			}
			require.Equal(t, c.want, got)
		})
	}
}

func TestWhatATokenSays(t *testing.T) {
	t.Parallel()
	s := sqltext.Scanner{Src: `Set "A""b" = 'it''s', E'\\x', b'1', $2, $q$ x $q$ (`}
	for _, want := range []sqltext.Token{
		{Kind: sqltext.Word, Text: "set"}, {Kind: sqltext.Quoted, Text: `A"b`}, {Kind: sqltext.Punct, Text: "="}, {Kind: sqltext.String, Text: "it's", Plain: true},
		{Kind: sqltext.Punct, Text: ","}, {Kind: sqltext.String, Text: `\\x`}, {Kind: sqltext.Punct, Text: ","}, {Kind: sqltext.String, Text: "1"}, {Kind: sqltext.Punct, Text: ","},
		{Kind: sqltext.Param, Text: "2"}, {Kind: sqltext.Punct, Text: ","}, {Kind: sqltext.String, Text: " x ", Plain: true, Dollar: true}, {Kind: sqltext.Punct, Text: "("}, {Kind: sqltext.End, Depth: 1}, {Kind: sqltext.End, Depth: 1},
	} {
		got := s.Next()
		got.Start, got.End = 0, 0
		require.Equal(t, want, got)
	}
	first := func(sql string, escapes bool) string {
		s := sqltext.Scanner{Src: sql, Escapes: escapes}
		t := s.Next()
		return sql[t.Start:t.End]
	}
	require.Equal(t, `'a\'`, first(`'a\' b'`, false))
	require.Equal(t, `'a\' b'`, first(`'a\' b'`, true))
	require.Equal(t, `N'a\'`, first(`N'a\' b'`, false))
	require.Equal(t, `N'a\' b'`, first(`N'a\' b'`, true))
	two := sqltext.All("'it''s '\n'two'")
	require.Len(t, two, 1)
	require.Equal(t, "it's two", two[0].Text)
	require.True(t, two[0].Plain)
	word := sqltext.All("WHERE")[0]
	require.True(t, word.Is("where") && word.Name() && !word.Punct('W'))
}

func FuzzScanner(f *testing.F) {
	for _, s := range []string{"", ";", "'", `E'\`, "$", "$a$ $a", "/*/**/", "((;)", ")))", `"`, `U&"`, "--", "$1a", "\u0085", "1.e", "u&'", "a$b$c"} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, sql string, escapes bool) {
		s := sqltext.Scanner{Src: sql, Escapes: escapes}
		at, depth := 0, 0
		for {
			tok := s.Next()
			if tok.Kind == sqltext.End {
				require.True(t, tok.Start == len(sql) && tok.End == len(sql))
				return
			}
			require.True(t, at <= tok.Start && tok.Start < tok.End && tok.End <= len(sql), "tokens are in order and not empty")
			require.GreaterOrEqual(t, tok.Depth, depth-1)
			at, depth = tok.End, tok.Depth
		}
	})
}
