package changes

import (
	"context"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
)

// tableSQL changes one column, constraint or option of a table.
func tableSQL(e *archive.Entry, name string, want, have fact) string {
	table := tableName(e)
	if table == "" {
		return ""
	}
	alter := "ALTER TABLE " + table + " "
	column, isColumn := strings.CutPrefix(name, prefixColumn)
	constraint, isConstraint := strings.CutPrefix(name, prefixConstr)
	switch {
	case isColumn && have.text == "":
		return alter + "ADD COLUMN " + want.text + ";"
	case isColumn && want.text == "":
		return alter + "DROP COLUMN " + pg.QuoteIdent(column) + ";"
	case isColumn:
		if changes := columnSQL(column, want.text, have.text); len(changes) > 0 {
			return alter + strings.Join(changes, ", ") + ";"
		}
	case isConstraint:
		var changes []string
		if have.text != "" {
			changes = append(changes, "DROP CONSTRAINT "+pg.QuoteIdent(constraint))
		}
		if want.text != "" {
			changes = append(changes, "ADD "+want.text)
		}
		return alter + strings.Join(changes, ", ") + ";"
	case name == factOptions:
		return optionsSQL(alter, want.text, have.text)
	}
	return ""
}

// clauses are the clauses of a column's definition.
type clauses struct {
	typ, collate, byDefault, generated string
	notNull                            bool
	rest                               bool // there is something else
}

func clausesOf(item string) (c clauses) {
	s, ok := sqltext.One(item)
	if !ok {
		return clauses{rest: true}
	}
	words := []string{"default", "not", "generated", "collate", "constraint", "options", "check", "storage", "compression", "null"}
	text := func(from, to int) string { return s.SQL[s.Tokens[from].Start:s.Tokens[to-1].End] }
	end := s.Find(1, words...)
	if end < 0 {
		end = len(s.Tokens)
	}
	if end < 2 {
		return clauses{rest: true}
	}
	c.typ = text(1, end)
	for end < len(s.Tokens) {
		from, next := end, s.Find(end+1, words...)
		if s.Words(from, "not", "null") {
			next = s.Find(from+2, words...)
		}
		if next < 0 {
			next = len(s.Tokens)
		}
		switch {
		case s.Word(from, "default"):
			c.byDefault = text(from, next)
		case s.Words(from, "not", "null") && next == from+2:
			c.notNull = true
		case s.Word(from, "generated"):
			c.generated = text(from, next)
		case s.Word(from, "collate"):
			c.collate = text(from, next)
		default:
			c.rest = true
		}
		end = next
	}
	return c
}

// columnSQL are the actions of ALTER TABLE that bring a column from have to want,
// none where that is not known.
func columnSQL(column, want, have string) (changes []string) {
	w, h := clausesOf(want), clausesOf(have)
	if w.rest || h.rest || w.generated != h.generated {
		return nil
	}
	alter := "ALTER COLUMN " + pg.QuoteIdent(column) + " "
	if w.typ != h.typ || w.collate != h.collate {
		changes = append(changes, strings.TrimSpace(alter+"TYPE "+w.typ+" "+w.collate))
	}
	switch {
	case w.byDefault == h.byDefault:
	case w.byDefault == "":
		changes = append(changes, alter+"DROP DEFAULT")
	default:
		changes = append(changes, alter+"SET "+w.byDefault)
	}
	switch {
	case w.notNull == h.notNull:
	case w.notNull:
		changes = append(changes, alter+"SET NOT NULL")
	default:
		changes = append(changes, alter+"DROP NOT NULL")
	}
	return changes
}

// optionsSQL changes storage parameters, or the table that a table inherits from.
func optionsSQL(alter, want, have string) string {
	options := func(text, word string) (map[string]string, []string) {
		s, _ := sqltext.One(text)
		items, next, ok := s.List(1)
		if !ok || !s.Word(0, word) || next != len(s.Tokens) {
			return nil, nil
		}
		out, names := map[string]string{}, []string{}
		for _, x := range items {
			name, _, _ := strings.Cut(x.Text(), "=")
			out[strings.TrimSpace(name)] = x.Text()
			names = append(names, strings.TrimSpace(name))
		}
		return out, names
	}
	w, wanted := options(want, "with")
	h, had := options(have, "with")
	if (want == "" || w != nil) && (have == "" || h != nil) {
		var set, reset, sql []string
		for _, name := range wanted {
			if w[name] != h[name] {
				set = append(set, w[name])
			}
		}
		for _, name := range had {
			if _, ok := w[name]; !ok {
				reset = append(reset, name)
			}
		}
		if len(set) > 0 {
			sql = append(sql, alter+"SET ("+strings.Join(set, ", ")+");")
		}
		if len(reset) > 0 {
			sql = append(sql, alter+"RESET ("+strings.Join(reset, ", ")+");")
		}
		return strings.Join(sql, " ")
	}
	w, wanted = options(want, "inherits")
	h, had = options(have, "inherits")
	if (want == "" || w != nil) && (have == "" || h != nil) {
		more := lists.Pick(wanted, func(name string) (string, bool) { return alter + "INHERIT " + name + ";", h[name] == "" })
		less := lists.Pick(had, func(name string) (string, bool) { return alter + "NO INHERIT " + name + ";", w[name] == "" })
		return strings.Join(append(more, less...), " ")
	}
	return ""
}

// MissingValues reads, by table and column, what rows have that are older than a column which
// was added with a default: the server keeps that one value, as the default gave it then
// (attmissingval), and NULL stands nowhere in it. The session's settings say how it is written.
func MissingValues(ctx context.Context, conn *pgx.Conn) (map[pg.Name]map[string]string, error) {
	rows, _ := conn.Query(ctx, `SELECT n.nspname::text, c.relname::text, a.attname::text, (a.attmissingval::text::text[])[1]
		FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
		WHERE a.atthasmissing AND NOT a.attisdropped AND t.typdelim = ',' AND (a.attmissingval::text::text[])[1] IS NOT NULL AND `+catalog.UserSchema)
	out := map[pg.Name]map[string]string{}
	var table pg.Name
	var column, value string
	_, err := pgx.ForEachRow(rows, []any{&table.Schema, &table.Name, &column, &value}, func() error {
		if out[table] == nil {
			out[table] = map[string]string{}
		}
		out[table][column] = value
		return nil
	})
	return out, pg.Wrap(err, "read values of added columns")
}

// constantDefault is a default that gives the same value whenever it is evaluated.
var constantDefault = regexp.MustCompile(`(?is)^default\s+(-?[0-9][0-9.e+-]*|true|false|E?'(?:[^']|'')*')(::[^(']*(\([0-9, ]+\))?[^(']*)?$`)

// addedSQL adds a column so that the rows that are there have the value that those of the
// source have, where its default would give another one by now; plain is the statement that
// takes the default as it is.
func addedSQL(e *archive.Entry, column, item, value, plain string) string {
	c, table := clausesOf(item), tableName(e)
	if c.rest || c.byDefault == "" || table == "" || constantDefault.MatchString(c.byDefault) {
		return plain
	}
	alter := "ALTER TABLE " + table + " "
	return alter + "ADD COLUMN " + strings.Replace(item, c.byDefault, "DEFAULT "+pg.QuoteLiteral(value), 1) + "; " +
		alter + "ALTER COLUMN " + pg.QuoteIdent(column) + " SET " + c.byDefault + ";"
}
