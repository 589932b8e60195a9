package archive

import "strings"

// pattern is one of psql's patterns as regular expressions of the server, one for each part of the
// name, as patternToSQLRegex writes them (PostgreSQL, src/fe_utils/string_utils.c).
type pattern struct {
	parts []string
	open  bool // a double quote is not closed
}

// regexSpecial are the characters that need a backslash to be taken literally.
const regexSpecial = `|*+?()[]{}.^$\`

// parsePattern reads a pattern: letters outside of double quotes are folded to lower case, * is any
// text and ? any character, a dot separates the names; other characters outside of quotes, except
// $, may be a regular expression.
func parsePattern(text string) pattern {
	var p pattern
	var b strings.Builder
	quoted := false
	begin := func() { b.WriteString("^(") }
	end := func() {
		b.WriteString(")$")
		p.parts = append(p.parts, b.String())
		b.Reset()
	}
	begin()
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '"' && quoted && i+1 < len(text) && text[i+1] == '"':
			b.WriteByte('"')
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && c >= 'A' && c <= 'Z':
			b.WriteByte(c + 'a' - 'A')
		case !quoted && c == '*':
			b.WriteString(".*")
		case !quoted && c == '?':
			b.WriteByte('.')
		case !quoted && c == '.':
			end()
			begin()
		case c == '$':
			b.WriteString(`\$`)
		case quoted && strings.IndexByte(regexSpecial, c) >= 0, c == '[' && i+1 < len(text) && text[i+1] == ']':
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	end()
	p.open = quoted
	return p
}

// table returns the expressions for schema and name; the schema's is "" where
// the pattern names none. A database in front of both is the third.
func (p pattern) table() (schema, name, database string) {
	n := len(p.parts)
	name = p.parts[n-1]
	if n > 1 {
		schema = p.parts[n-2]
	}
	if n > 2 {
		database = p.parts[n-3]
	}
	return schema, name, database
}
