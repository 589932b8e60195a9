package schema

import (
	"slices"
	"strings"

	"crossfade/internal/pg"
)

// replaceable are the words by which a definition of pg_dump begins that may be
// executed over what is there.
var replaceable = map[string]string{"FUNCTION": "CREATE FUNCTION ", "PROCEDURE": "CREATE PROCEDURE ", "VIEW": "CREATE VIEW ", "AGGREGATE": "CREATE AGGREGATE ", "TRANSFORM": "CREATE TRANSFORM "}

// remade are kinds that are dropped and made again: nothing but themselves depends
// on them, or the server says so.
var remade = []string{"INDEX", "CONSTRAINT", "CHECK CONSTRAINT", "POLICY", "STATISTICS", "CAST", "OPERATOR", "OPERATOR CLASS", "CONVERSION", "DEFAULT"}

// makeSQL makes an object on the target, with its owner.
func (c *Comparison) makeSQL(e *Entry, cfg ChangesConfig) string {
	w := cfg.Rewrite
	sql, _ := definition(e, w)
	sql = terminated(sql)
	if o, ok := ownerEntry(e); ok && !cfg.NoOwners {
		if to := w.Owners.Roles[e.Owner]; to != "" && to != cfg.Self {
			sql += " " + o.Definition + " " + pg.QuoteIdent(to) + ";"
		}
	}
	return sql
}

// terminated is SQL with a semicolon at its end.
func terminated(sql string) string {
	sql = strings.TrimSpace(sql)
	if sql == "" || strings.HasSuffix(sql, ";") {
		return sql
	}
	return sql + ";"
}

// dropSQL takes an object away.
func dropSQL(e *Entry) string {
	if sql := strings.TrimSpace(e.Drop); sql != "" {
		return sql
	}
	if e.Kind == "COMMENT" {
		for _, s := range split(e.Definition) {
			if at := s.find(2, "is"); at > 0 {
				return s.sql[s.tokens[0].start:s.tokens[at-1].end] + " IS NULL;"
			}
		}
	}
	return ""
}

// renameSQL gives an object its new name or schema, by the statements that drop it
// under either, "" where they do not tell.
func renameSQL(kept, now *Entry) string {
	from, to := split(kept.Drop), split(now.Drop)
	if len(from) != 1 || len(to) != 1 {
		return ""
	}
	s, n := from[0], to[0]
	if s.words(0, "alter", "table", "only") { // … DROP CONSTRAINT c
		if at := s.find(3, "drop"); at > 0 && s.word(at+1, "constraint") && kept.Schema == now.Schema {
			return "ALTER TABLE " + s.sql[s.tokens[3].start:s.tokens[at-1].end] + " RENAME CONSTRAINT " + s.sql[s.tokens[at+2].start:s.tokens[len(s.tokens)-1].end] +
				" TO " + n.sql[n.tokens[len(n.tokens)-1].start:n.tokens[len(n.tokens)-1].end] + ";"
		}
		return ""
	}
	kind := strings.Fields(strings.ToLower(kept.Kind))
	if !s.word(0, "drop") || !s.words(1, kind...) || !n.words(1, kind...) {
		return ""
	}
	alter := "ALTER " + s.sql[s.tokens[1].start:s.tokens[len(s.tokens)-1].end]
	if kept.Schema != now.Schema {
		return alter + " SET SCHEMA " + pg.QuoteIdent(now.Schema) + ";"
	}
	name := len(kind) + 1
	if n.punct(name+1, '.') {
		name += 2
	}
	if _, ok := n.identifier(name); !ok {
		return ""
	}
	return alter + " RENAME TO " + n.sql[n.tokens[name].start:n.tokens[name].end] + ";"
}

// aclChange tells of privileges as a whole: those to be taken first.
func aclChange(one Change, names []string, want, have []fact) Change {
	var more, less, sql []string
	for _, name := range names {
		if h, has := valueOf(have, name); has {
			less = append(less, h.text)
			sql = append(sql, inverted(h.text))
		}
	}
	for _, name := range names {
		if w, ok := valueOf(want, name); ok {
			more = append(more, w.text)
			sql = append(sql, w.text+";")
		}
	}
	one.Property = "privileges"
	one.Source, one.Target = strings.Join(more, "; "), strings.Join(less, "; ")
	if !slices.Contains(sql, "") {
		one.SQL = strings.Join(sql, " ")
	}
	return one
}

// inverted takes back a GRANT or REVOKE of pg_dump, "" for another statement.
func inverted(sql string) string {
	statements := split(sql)
	if len(statements) != 1 {
		return ""
	}
	s := statements[0]
	switch {
	case s.word(0, "grant"):
		at := s.find(1, "to")
		if at < 0 {
			return ""
		}
		end := len(s.tokens) - 1
		if with := s.find(at, "with"); with > 0 {
			end = with - 1
		}
		return "REVOKE " + s.sql[s.tokens[1].start:s.tokens[at-1].end] + " FROM " + s.sql[s.tokens[at+1].start:s.tokens[end].end] + ";"
	case s.word(0, "revoke"):
		if at := s.find(1, "from"); at > 0 {
			return "GRANT " + s.sql[s.tokens[1].start:s.tokens[at-1].end] + " TO " + s.sql[s.tokens[at+1].start:s.tokens[len(s.tokens)-1].end] + ";"
		}
	}
	return ""
}

// propertyChanges tells of single properties of an object that is on both sides.
func propertyChanges(one Change, p entryPair, names []string, want, have []fact, missing map[string]string) []Change {
	var out []Change
	if c, ok := renamedColumn(one, p.now, names, want, have); ok {
		names = slices.DeleteFunc(names, func(name string) bool { return name == factOrder || strings.HasPrefix(name, prefixColumn) })
		out = append(out, c)
	}
	columns := slices.ContainsFunc(names, func(name string) bool {
		return strings.HasPrefix(name, prefixColumn) || strings.HasPrefix(name, prefixLabel)
	})
	for _, name := range names {
		if columns && strings.HasPrefix(name, "order of ") {
			continue // follows from the others
		}
		w, _ := valueOf(want, name)
		h, _ := valueOf(have, name)
		c := one
		c.Property, c.Source, c.Target = shown(name), w.text, h.text
		c.SQL = propertySQL(p, name, w, h, want)
		if column, ok := strings.CutPrefix(name, prefixColumn); ok && h.text == "" {
			if value, ok := missing[column]; ok {
				c.SQL = addedSQL(p.now, column, w.text, value, c.SQL)
			}
		}
		out = append(out, c)
	}
	return out
}

// shown leaves out of a statement which object it is of.
func shown(name string) string {
	for _, s := range split(name) {
		at := 2
		switch {
		case !s.word(0, "alter"):
			return name
		case s.word(2, "only"):
			at = 3
		}
		if s.punct(at+1, '.') {
			at += 2
		}
		if at+1 < len(s.tokens) {
			return s.sql[s.tokens[at+1].start:]
		}
	}
	return name
}

// renamedColumn finds a column that differs by its name alone.
func renamedColumn(one Change, e *Entry, names []string, want, have []fact) (Change, bool) {
	var fresh, gone []fact
	for _, name := range names {
		if !strings.HasPrefix(name, prefixColumn) {
			continue
		}
		w, wanted := valueOf(want, name)
		h, has := valueOf(have, name)
		switch {
		case wanted && !has:
			fresh = append(fresh, w)
		case has && !wanted:
			gone = append(gone, h)
		}
	}
	if len(fresh) != 1 || len(gone) != 1 {
		return one, false
	}
	_, a, _ := strings.Cut(fresh[0].value, " ")
	_, b, _ := strings.Cut(gone[0].value, " ")
	table := tableName(e)
	if a != b || table == "" {
		return one, false
	}
	from, to := strings.TrimPrefix(gone[0].name, prefixColumn), strings.TrimPrefix(fresh[0].name, prefixColumn)
	one.Property, one.Source, one.Target = "name of column "+from, to, from
	one.SQL = "ALTER TABLE " + table + " RENAME COLUMN " + pg.QuoteIdent(from) + " TO " + pg.QuoteIdent(to) + ";"
	return one, true
}

// tableName is the name of the table that CREATE TABLE makes, as it is written.
func tableName(e *Entry) string {
	statements := split(e.Definition)
	if len(statements) == 0 {
		return ""
	}
	s := statements[0]
	at := s.find(0, "table")
	open := slices.IndexFunc(s.tokens, func(t token) bool { return t.depth == 0 && t.kind == tokenPunct && s.sql[t.start] == '(' })
	if !s.word(0, "create") || at < 0 || open <= at+1 {
		return ""
	}
	end := at + 1
	if s.punct(at+2, '.') {
		end = at + 3
	}
	return s.sql[s.tokens[at+1].start:s.tokens[end].end]
}

// propertySQL makes one property of the target as the source's.
func propertySQL(p entryPair, name string, want, have fact, all []fact) string {
	e := p.now
	switch {
	case name == factOwner:
		o, _ := ownerEntry(e)
		return o.Definition + " " + pg.QuoteIdent(want.value) + ";"
	case strings.HasPrefix(name, prefixLabel):
		return labelSQL(e, want, all)
	case e.Kind == "TABLE" || e.Kind == "FOREIGN TABLE":
		if sql := tableSQL(e, name, want, have); sql != "" {
			return sql
		}
	case name == factDefinition:
		return definitionSQL(p, want)
	}
	if want.text != "" && name != factDefinition && name != factOptions && name != factOrder && name != factMethod && !strings.HasPrefix(name, "order of") {
		return want.text + ";" // a statement of its own
	}
	if want.text == "" {
		return undoneSQL(have)
	}
	return ""
}

// undoneSQL takes back a statement that follows a definition.
func undoneSQL(have fact) string {
	for end, instead := range map[string]string{"SET STATISTICS": "SET STATISTICS -1", "REPLICA IDENTITY": "REPLICA IDENTITY DEFAULT", "FORCE ROW LEVEL": "NO FORCE ROW LEVEL SECURITY",
		"REPLICA IDENTITY USING INDEX": "REPLICA IDENTITY DEFAULT", "CLUSTER ON": "SET WITHOUT CLUSTER"} {
		if head, ok := strings.CutSuffix(have.name, end); ok && (end != "SET STATISTICS" || !strings.HasPrefix(have.name, "ALTER STATISTICS")) {
			return strings.ReplaceAll(head, " . ", ".") + instead + ";"
		}
	}
	return ""
}

func definitionSQL(p entryPair, want fact) string {
	e := p.now
	if begin, ok := replaceable[e.Kind]; ok {
		if rest, ok := strings.CutPrefix(want.text, begin); ok {
			return terminated("CREATE OR REPLACE " + strings.TrimPrefix(begin, "CREATE ") + rest)
		}
	}
	switch {
	case e.Kind == "COMMENT" || e.Kind == "DEFAULT" || e.Kind == "SECURITY LABEL":
		return terminated(want.text)
	case e.Kind == "SEQUENCE":
		if rest, ok := strings.CutPrefix(want.text, "CREATE SEQUENCE "); ok {
			sql := "ALTER SEQUENCE " + strings.Join(strings.Fields(rest), " ")
			if !strings.HasSuffix(sql, " CYCLE") {
				sql += " NO CYCLE"
			}
			return sql + ";"
		}
	case slices.Contains(remade, e.Kind) && p.kept != nil:
		return terminated(p.kept.Drop) + " " + terminated(want.text)
	}
	return ""
}

// labelSQL adds a label where it stands on the source.
func labelSQL(e *Entry, want fact, all []fact) string {
	statements := split(e.Definition)
	if want.text == "" || len(statements) != 1 {
		return ""
	}
	s := statements[0]
	at := s.find(0, "as")
	sql := "ALTER TYPE " + s.sql[s.tokens[2].start:s.tokens[at-1].end] + " ADD VALUE " + want.text
	i := slices.IndexFunc(all, func(f fact) bool { return f.name == want.name })
	switch {
	case i > 0:
		sql += " AFTER " + all[i-1].text
	case len(all) > 2:
		sql += " BEFORE " + all[1].text
	}
	return sql + ";"
}

// tableSQL changes one column, constraint or option of a table.
func tableSQL(e *Entry, name string, want, have fact) string {
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

// clauses are those of a column's definition.
type clauses struct {
	typ, collate, byDefault, generated string
	notNull                            bool
	rest                               bool // there is something else
}

func clausesOf(item string) (c clauses) {
	statements := split(item)
	if len(statements) != 1 {
		return clauses{rest: true}
	}
	s := statements[0]
	words := []string{"default", "not", "generated", "collate", "constraint", "options", "check", "storage", "compression", "null"}
	text := func(from, to int) string { return s.sql[s.tokens[from].start:s.tokens[to-1].end] }
	end := s.find(1, words...)
	if end < 0 {
		end = len(s.tokens)
	}
	if end < 2 {
		return clauses{rest: true}
	}
	c.typ = text(1, end)
	for end < len(s.tokens) {
		from, next := end, s.find(end+1, words...)
		if s.words(from, "not", "null") {
			next = s.find(from+2, words...)
		}
		if next < 0 {
			next = len(s.tokens)
		}
		switch {
		case s.word(from, "default"):
			c.byDefault = text(from, next)
		case s.words(from, "not", "null") && next == from+2:
			c.notNull = true
		case s.word(from, "generated"):
			c.generated = text(from, next)
		case s.word(from, "collate"):
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
		statements := split(text)
		if len(statements) != 1 || !statements[0].word(0, word) {
			return nil, nil
		}
		items, next, ok := statements[0].list(1)
		if !ok || next != len(statements[0].tokens) {
			return nil, nil
		}
		out, names := map[string]string{}, []string{}
		for _, x := range items {
			name, _, _ := strings.Cut(x.text(), "=")
			out[strings.TrimSpace(name)] = x.text()
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
		var sql []string
		for _, name := range wanted {
			if h[name] == "" {
				sql = append(sql, alter+"INHERIT "+name+";")
			}
		}
		for _, name := range had {
			if w[name] == "" {
				sql = append(sql, alter+"NO INHERIT "+name+";")
			}
		}
		return strings.Join(sql, " ")
	}
	return ""
}
