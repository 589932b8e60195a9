package archive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Filter picks schemas and tables by the patterns of psql and pg_dump (PostgreSQL documentation,
// psql, "Patterns"). pg_dump applies those for the schema itself, so that they mean what they mean
// there: with IncludeTables neither schemas nor anything that is no table-like object is dumped,
// and the schema patterns have no effect.
type Filter struct {
	IncludeSchemas    []string // pg_dump -n
	ExcludeSchemas    []string // pg_dump -N
	IncludeTables     []string // pg_dump -t
	ExcludeTables     []string // pg_dump -T
	ExcludeTablesData []string // pg_dump --exclude-table-data: the table without its rows
}

// filterFlag is one list of a Filter with its flags.
type filterFlag struct {
	ours, dump string
	patterns   []string
	parts      int // most parts that a pattern may have: schema, or schema.table
}

func (f Filter) flags() []filterFlag {
	return []filterFlag{
		{"--include-schema", "--schema", f.IncludeSchemas, 1},
		{"--exclude-schema", "--exclude-schema", f.ExcludeSchemas, 1},
		{"--include-table", "--table", f.IncludeTables, 2},
		{"--exclude-table", "--exclude-table", f.ExcludeTables, 2},
		{"--exclude-table-data", "", f.ExcludeTablesData, 2},
	}
}

// IsZero reports whether the filter lets everything pass.
func (f Filter) IsZero() bool { return len(f.Flags()) == 0 }

// Includes reports whether only what matches a pattern is taken.
func (f Filter) Includes() bool { return len(f.IncludeSchemas)+len(f.IncludeTables) > 0 }

// SchemaIsWhole reports whether the schema of everything is taken, whatever of the rows.
func (f Filter) SchemaIsWhole() bool {
	f.ExcludeTablesData = nil
	return f.IsZero()
}

// Flags returns the filter as Crossfade's flags, always in the same order.
func (f Filter) Flags() []string {
	var out []string
	for _, x := range f.flags() {
		for _, p := range slices.Sorted(slices.Values(x.patterns)) {
			out = append(out, x.ours+"="+p)
		}
	}
	return out
}

// Validate refuses patterns that could match nothing.
func (f Filter) Validate() error {
	var errs []error
	for _, x := range f.flags() {
		for _, text := range x.patterns {
			p := parsePattern(text)
			switch {
			case p.open:
				errs = append(errs, fmt.Errorf("%s %s: a double quote is not closed", x.ours, text))
			case strings.TrimSpace(text) == "":
				errs = append(errs, fmt.Errorf("%s: the pattern is empty; write one such as %s", x.ours, []string{"", "app", "app.*"}[x.parts]))
			case len(p.parts) > x.parts+1:
				errs = append(errs, fmt.Errorf("%s %s: too many names with dots between them", x.ours, text))
			}
		}
	}
	return errors.Join(errs...)
}

// dumpArguments are pg_dump's own switches for the filter.
func (f Filter) dumpArguments() []string {
	var out []string
	for _, x := range f.flags() {
		if x.dump == "" {
			continue
		}
		for _, p := range x.patterns {
			out = append(out, x.dump+"="+p)
		}
	}
	return out
}

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
