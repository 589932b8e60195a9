package plan

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/sqltext"
	"crossfade/schema/roles"
)

func FuzzStatements(f *testing.F) {
	for _, s := range []string{"", ";", "a;b", "'", `E'\`, "$", "$a$ $a", "/*/**/", "((;)", ")))", `"`, `U&"`, "--", "GRANT x TO y;",
		"ALTER TABLE ONLY a ADD CONSTRAINT b FOREIGN KEY (c) REFERENCES d;", "CREATE UNLOGGED", "ALTER DEFAULT PRIVILEGES FOR ROLE", "CREATE POLICY p ON t TO",
		"ALTER TABLE CONSTRAINT 0 FOREIGN KEY(", "\u0085"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		at, depth := 0, 0
		for _, tok := range sqltext.All(sql) {
			require.True(t, at <= tok.Start && tok.Start < tok.End && tok.End <= len(sql), "tokens are in order and not empty")
			require.GreaterOrEqual(t, tok.Depth, depth-1)
			at, depth = tok.End, tok.Depth
		}
		end := 0
		for _, s := range sqltext.Split(sql) {
			require.LessOrEqual(t, end, s.Start)
			require.NotEmpty(t, strings.Trim(s.Text(), " \t\r\n\f\v"))
			end = s.End
		}
		roles.Map(sql, map[string]string{"y": "z"})
		Logged(sql)
		if out, changed := notValid(sql); changed && ended(sql) {
			_, valid, ok := foreignKeyClause(out)
			require.True(t, ok && !valid, "what was made NOT VALID reads so: %q", out)
		}
	})
}

// ended reports whether no quotation and no comment of a text is left open.
func ended(sql string) bool {
	tokens := sqltext.All(sql + "\n;")
	return len(tokens) > 0 && tokens[len(tokens)-1].Start == len(sql)+1
}
