package schema

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLexTokens(t *testing.T) {
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
		{"numbers", `1.5e3, 7`, []string{"1.5e3", ",", "7"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, tok := range lex(c.sql) {
				got = append(got, c.sql[tok.start:tok.end])
			}
			require.Equal(t, c.want, got)
		})
	}
}

func TestSplitHeedsParentheses(t *testing.T) {
	t.Parallel()
	var got []string
	for _, s := range split("CREATE RULE r DO (a; b); -- ;\nc;;\n  d") {
		got = append(got, s.text())
	}
	require.Equal(t, []string{"CREATE RULE r DO (a; b)", "c", "d"}, got)
	require.Empty(t, split("-- *not* creating schema, since initdb creates it\n\n"))
}

func TestIdentifierFoldsAndUnquotes(t *testing.T) {
	t.Parallel()
	s := split(`Abc "D""e" 'f'`)[0]
	name, ok := s.identifier(0)
	require.True(t, ok)
	require.Equal(t, "abc", name)
	name, ok = s.identifier(1)
	require.True(t, ok)
	require.Equal(t, `D"e`, name)
	_, ok = s.identifier(2)
	require.False(t, ok)
	_, ok = s.identifier(9)
	require.False(t, ok)
}

func FuzzLexer(f *testing.F) {
	for _, s := range []string{"", ";", "a;b", "'", `E'\`, "$", "$a$ $a", "/*/**/", "((;)", ")))", `"`, `U&"`, "--", "GRANT x TO y;",
		"ALTER TABLE ONLY a ADD CONSTRAINT b FOREIGN KEY (c) REFERENCES d;", "CREATE UNLOGGED", "ALTER DEFAULT PRIVILEGES FOR ROLE", "CREATE POLICY p ON t TO",
		"ALTER TABLE CONSTRAINT 0 FOREIGN KEY(", "\u0085"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		at, depth := 0, 0
		for _, tok := range lex(sql) {
			require.True(t, at <= tok.start && tok.start < tok.end && tok.end <= len(sql), "tokens are in order and not empty")
			require.GreaterOrEqual(t, tok.depth, depth-1)
			at, depth = tok.end, tok.depth
		}
		end := 0
		for _, s := range split(sql) {
			require.LessOrEqual(t, end, s.start)
			require.NotEmpty(t, strings.Trim(s.text(), " \t\r\n\f\v"))
			end = s.end
		}
		mapRoles(sql, map[string]string{"y": "z"})
		logged(sql)
		if out, changed := notValid(sql); changed && ended(sql) {
			_, valid, ok := foreignKeyClause(out)
			require.True(t, ok && !valid, "what was made NOT VALID reads so: %q", out)
		}
	})
}

// ended reports whether no quotation and no comment of a text is left open.
func ended(sql string) bool {
	tokens := lex(sql + "\n;")
	return len(tokens) > 0 && tokens[len(tokens)-1].start == len(sql)+1
}
