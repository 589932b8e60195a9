package changes

import (
	"slices"
	"strings"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// replaceable are the words with which a definition of pg_dump begins if it may be executed when
// the object exists already.
var replaceable = map[string]string{"FUNCTION": "CREATE FUNCTION ", "PROCEDURE": "CREATE PROCEDURE ", "VIEW": "CREATE VIEW ", "AGGREGATE": "CREATE AGGREGATE ", "TRANSFORM": "CREATE TRANSFORM "}

// remade are kinds that are dropped and made again: nothing but themselves depends
// on them, or the server says so.
var remade = []string{"INDEX", "CONSTRAINT", "CHECK CONSTRAINT", "POLICY", "STATISTICS", "CAST", "OPERATOR", "OPERATOR CLASS", "CONVERSION", "DEFAULT"}

// usualMethod is the access method that tables have where none is named.
const usualMethod = "heap"

// makeSQL makes an object on the target, with its owner.
func (c *Comparison) makeSQL(e *archive.Entry, cfg Config) string {
	w := cfg.Rewrite
	plain := *e
	if e.RelKind != 'p' { // a partitioned table is given it by a statement of its own
		plain.AccessMethod = ""
	}
	sql, _ := plan.Definition(&plain, w)
	sql = terminated(sql)
	if method := e.AccessMethod; method != plain.AccessMethod && method != usualMethod { // nobody types it in a transaction
		sql = "SET default_table_access_method = " + pg.QuoteIdent(method) + "; " + sql + " RESET default_table_access_method;"
	}
	if o, ok := plan.OwnerEntry(e); ok && !cfg.NoOwners {
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
func dropSQL(e *archive.Entry) string {
	if sql := strings.TrimSpace(e.Drop); sql != "" {
		return sql
	}
	if e.Kind == "COMMENT" {
		for _, s := range sqltext.Split(e.Definition) {
			if at := s.Find(2, "is"); at > 0 {
				return s.SQL[s.Tokens[0].Start:s.Tokens[at-1].End] + " IS NULL;"
			}
		}
	}
	return ""
}

// renameSQL gives an object its new name or schema, by the statements that drop it
// under either, "" where they do not tell.
func renameSQL(kept, now *archive.Entry) string {
	s, was := sqltext.One(kept.Drop)
	n, is := sqltext.One(now.Drop)
	if !was || !is {
		return ""
	}
	if s.Words(0, "alter", "table", "only") { // … DROP CONSTRAINT c
		if at := s.Find(3, "drop"); at > 0 && s.Word(at+1, "constraint") && kept.Schema == now.Schema {
			return "ALTER TABLE " + s.SQL[s.Tokens[3].Start:s.Tokens[at-1].End] + " RENAME CONSTRAINT " + s.SQL[s.Tokens[at+2].Start:s.Tokens[len(s.Tokens)-1].End] +
				" TO " + n.SQL[n.Tokens[len(n.Tokens)-1].Start:n.Tokens[len(n.Tokens)-1].End] + ";"
		}
		return ""
	}
	kind := strings.Fields(strings.ToLower(kept.Kind))
	if !s.Word(0, "drop") || !s.Words(1, kind...) || !n.Words(1, kind...) {
		return ""
	}
	alter := "ALTER " + s.SQL[s.Tokens[1].Start:s.Tokens[len(s.Tokens)-1].End]
	if kept.Schema != now.Schema {
		return alter + " SET SCHEMA " + pg.QuoteIdent(now.Schema) + ";"
	}
	name := len(kind) + 1
	if n.Punct(name+1, '.') {
		name += 2
	}
	if _, ok := n.Identifier(name); !ok {
		return ""
	}
	return alter + " RENAME TO " + n.SQL[n.Tokens[name].Start:n.Tokens[name].End] + ";"
}

// aclChange tells of privileges as a whole: those to be taken first.
func aclChange(one finding.Change, names []string, want, have []fact) finding.Change {
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
	s, _ := sqltext.One(sql)
	switch {
	case s.Word(0, "grant"):
		at := s.Find(1, "to")
		if at < 0 {
			return ""
		}
		end := len(s.Tokens) - 1
		if with := s.Find(at, "with"); with > 0 {
			end = with - 1
		}
		return "REVOKE " + s.SQL[s.Tokens[1].Start:s.Tokens[at-1].End] + " FROM " + s.SQL[s.Tokens[at+1].Start:s.Tokens[end].End] + ";"
	case s.Word(0, "revoke"):
		if at := s.Find(1, "from"); at > 0 {
			return "GRANT " + s.SQL[s.Tokens[1].Start:s.Tokens[at-1].End] + " TO " + s.SQL[s.Tokens[at+1].Start:s.Tokens[len(s.Tokens)-1].End] + ";"
		}
	}
	return ""
}

// propertyChanges tells of single properties of an object that is on both sides.
func propertyChanges(one finding.Change, p entryPair, names []string, want, have []fact, missing map[string]string) []finding.Change {
	var out []finding.Change
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
	for _, s := range sqltext.Split(name) {
		at := 2
		switch {
		case !s.Word(0, "alter"):
			return name
		case s.Word(2, "only"):
			at = 3
		}
		if s.Punct(at+1, '.') {
			at += 2
		}
		if at+1 < len(s.Tokens) {
			return s.SQL[s.Tokens[at+1].Start:]
		}
	}
	return name
}

// renamedColumn finds a column that differs by its name alone.
func renamedColumn(one finding.Change, e *archive.Entry, names []string, want, have []fact) (finding.Change, bool) {
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
	if len(gone) == 0 { // a column that was added on both sides since the copy, and then renamed on the source
		for _, h := range have {
			if _, wanted := valueOf(want, h.name); strings.HasPrefix(h.name, prefixColumn) && !wanted {
				gone = append(gone, h)
			}
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
func tableName(e *archive.Entry) string {
	statements := sqltext.Split(e.Definition)
	if len(statements) == 0 {
		return ""
	}
	s := statements[0]
	at := s.Find(0, "table")
	open := s.Open()
	if !s.Word(0, "create") || at < 0 || open <= at+1 {
		return ""
	}
	end := at + 1
	if s.Punct(at+2, '.') {
		end = at + 3
	}
	return s.SQL[s.Tokens[at+1].Start:s.Tokens[end].End]
}

// propertySQL makes one property of the target as the source's.
func propertySQL(p entryPair, name string, want, have fact, all []fact) string {
	e := p.now
	switch {
	case name == factOwner:
		o, _ := plan.OwnerEntry(e)
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
func labelSQL(e *archive.Entry, want fact, all []fact) string {
	s, ok := sqltext.One(e.Definition)
	if want.text == "" || !ok {
		return ""
	}
	at := s.Find(0, "as")
	sql := "ALTER TYPE " + s.SQL[s.Tokens[2].Start:s.Tokens[at-1].End] + " ADD VALUE " + want.text
	i := slices.IndexFunc(all, func(f fact) bool { return f.name == want.name })
	switch {
	case i > 0:
		sql += " AFTER " + all[i-1].text
	case len(all) > 2:
		sql += " BEFORE " + all[1].text
	}
	return sql + ";"
}
