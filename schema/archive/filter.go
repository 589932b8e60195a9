package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
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

// Taken is what a filter takes along of a database, by the numbers of the objects
// there. It is what pg_dump would take.
type Taken struct {
	Everything  bool     // also what is in no schema, such as extensions, casts and event triggers
	Schemas     []uint32 // whose functions, types and the like are taken; never nil
	Relations   []uint32 // tables, views and sequences; never nil
	WithoutRows []uint32 // tables and sequences among them whose rows are not; never nil
}

// takenSchemas are the schemas selected by pg_dump's switches -n and -N, whose patterns match the
// schema's name, or database and schema.
const takenSchemas = `
SELECT n.oid FROM pg_catalog.pg_namespace n
WHERE n.nspname OPERATOR(pg_catalog.!~) '^pg_' AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema' AND n.nspname OPERATOR(pg_catalog.<>) '` + catalog.OwnSchema + `'
	AND (coalesce(pg_catalog.cardinality($1::pg_catalog.text[]), 0) OPERATOR(pg_catalog.=) 0 OR EXISTS (
		SELECT FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS p (nsp, db)
		WHERE n.nspname::pg_catalog.text OPERATOR(pg_catalog.~) p.nsp COLLATE pg_catalog."default"
			AND (p.db OPERATOR(pg_catalog.=) '' OR pg_catalog.current_database()::pg_catalog.text OPERATOR(pg_catalog.~) p.db COLLATE pg_catalog."default")))
	AND NOT EXISTS (
		SELECT FROM ROWS FROM (pg_catalog.unnest($3::pg_catalog.text[]), pg_catalog.unnest($4::pg_catalog.text[])) AS p (nsp, db)
		WHERE n.nspname::pg_catalog.text OPERATOR(pg_catalog.~) p.nsp COLLATE pg_catalog."default"
			AND (p.db OPERATOR(pg_catalog.=) '' OR pg_catalog.current_database()::pg_catalog.text OPERATOR(pg_catalog.~) p.db COLLATE pg_catalog."default"))
ORDER BY 1`

// takenRelations are those of the schemas $1 or, if $2 is not null, the relations $2; without those
// in $3. A sequence that a selected table owns is included; one of an identity column only with its
// table.
const takenRelations = `
WITH picked AS (
	SELECT c.oid FROM pg_catalog.pg_class c
	WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') AND c.relpersistence <> 't'
		AND CASE WHEN $2::pg_catalog.oid[] IS NULL THEN c.relnamespace = ANY ($1::pg_catalog.oid[]) ELSE c.oid = ANY ($2::pg_catalog.oid[]) END
		AND c.oid <> ALL (coalesce($3::pg_catalog.oid[], '{}'))
), owned AS (
	SELECT d.objid AS oid, d.refobjid AS owner, d.deptype FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
	WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = d.classid AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
)
SELECT oid FROM picked WHERE NOT EXISTS (SELECT FROM owned o WHERE o.oid = picked.oid AND o.deptype = 'i' AND NOT o.owner IN (SELECT oid FROM picked))
UNION SELECT o.oid FROM owned o JOIN picked p ON p.oid = o.owner
ORDER BY 1`

// Take reads what the filter takes along. It opens a session of its own, whose search path is the
// one that pg_dump has. It returns nil for a filter that lets everything pass.
func (f Filter) Take(ctx context.Context, source pg.DSN) (*Taken, error) {
	if f.IsZero() {
		return nil, nil
	}
	conn, err := pg.Connect(ctx, source, pg.WithName("patterns"), pg.WithOwnSearchPath())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	t := &Taken{Everything: !f.Includes(), Schemas: []uint32{}}
	if len(f.IncludeTables) == 0 { // with it no schema is taken, whatever its patterns
		include, includeDB := schemaPatterns(f.IncludeSchemas)
		exclude, excludeDB := schemaPatterns(f.ExcludeSchemas)
		if t.Schemas, err = oids(ctx, conn, takenSchemas, include, includeDB, exclude, excludeDB); err != nil {
			return nil, err
		}
	}
	var only []uint32 // nil: those of the schemas
	if len(f.IncludeTables) > 0 {
		if only, err = matching(ctx, conn, f.IncludeTables); err != nil {
			return nil, err
		}
	}
	without, err := matching(ctx, conn, f.ExcludeTables)
	if err != nil {
		return nil, err
	}
	if t.Relations, err = oids(ctx, conn, takenRelations, t.Schemas, only, without); err != nil {
		return nil, err
	}
	t.WithoutRows, err = matching(ctx, conn, f.ExcludeTablesData)
	return t, err
}

// schemaPatterns are the expressions for names of schemas, and of the databases before them.
func schemaPatterns(patterns []string) (schemas, databases []string) {
	schemas, databases = []string{}, []string{}
	for _, text := range patterns {
		database, schema, _ := parsePattern(text).table()
		schemas, databases = append(schemas, schema), append(databases, database)
	}
	return schemas, databases
}

// matching are the relations that patterns pick by the search path of the session, never nil.
func matching(ctx context.Context, conn *pgx.Conn, patterns []string) ([]uint32, error) {
	n := len(patterns)
	if n == 0 {
		return []uint32{}, nil
	}
	nsp, rel, db := make([]string, n), make([]string, n), make([]string, n)
	for i, text := range patterns {
		nsp[i], rel[i], db[i] = parsePattern(text).table()
	}
	return oids(ctx, conn, matchQuery, nsp, rel, db)
}

func oids(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]uint32, error) {
	rows, _ := conn.Query(ctx, sql, args...)
	found, err := pgx.AppendRows([]uint32{}, rows, pgx.RowTo[uint32])
	return found, pg.Wrap(err, "match patterns")
}

// matchQuery finds tables by patterns as pg_dump's expand_table_name_patterns
// does: a pattern without a schema is for what the search path shows.
const matchQuery = `
SELECT DISTINCT c.oid
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace,
ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]), pg_catalog.unnest($3::pg_catalog.text[])) AS p (nsp, rel, db)
WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p')
	AND c.relname::pg_catalog.text OPERATOR(pg_catalog.~) p.rel COLLATE pg_catalog."default"
	AND CASE p.nsp WHEN '' THEN pg_catalog.pg_table_is_visible(c.oid)
		ELSE n.nspname::pg_catalog.text OPERATOR(pg_catalog.~) p.nsp COLLATE pg_catalog."default" END
	AND (p.db OPERATOR(pg_catalog.=) '' OR pg_catalog.current_database()::pg_catalog.text OPERATOR(pg_catalog.~) p.db COLLATE pg_catalog."default")`
