package plan

import (
	"slices"
	"strconv"
	"strings"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/finding"
	"crossfade/schema/roles"
)

// relkindPartitioned is pg_class.relkind of a partitioned table.
const relkindPartitioned = 'p'

// Rewrite says what is changed in the definitions of the source.
type Rewrite struct {
	// Roles maps the source's role names to the target's. A role that is not in it keeps its name.
	Roles map[string]string
	// Owners are the owners that objects get; without any they stay with the role that restores.
	Owners Owners
	// Database is the name of the target's database, whose properties, comment and
	// privileges become the source's; "" to leave them as they are.
	Database string
	// Disordered are the source's tables whose columns CREATE TABLE … INHERITS would put
	// into another order, and Major is the target's version, which making them asks for.
	Disordered []catalog.Disordered
	Major      int
	// Path is the search_path under which expressions that call users' functions are
	// evaluated, as SET takes it; "" for none.
	Path string
	// KeepUnlogged leaves unlogged tables and sequences unlogged.
	KeepUnlogged bool
}

// Definition returns an entry's own SQL, as the target shall execute it. It is ""
// where nothing is to be done.
func Definition(e *archive.Entry, w Rewrite) (string, []finding.Finding) {
	sql := e.Definition
	var findings []finding.Finding
	if OfDatabase(e) {
		if w.Database == "" {
			return "", nil
		}
		sql = OfTarget(sql, w.Database)
	}
	switch {
	case e.Kind == KindOwner:
		return ownerSQL(e, w.Owners), nil
	case MentionsRoles(e.Kind):
		var left []string
		sql, left = roles.Map(sql, w.Roles)
		for _, statement := range left {
			message := "left out, since the role belongs to the source's platform"
			if e.Kind != KindProperties { // whose value may be a secret
				message += ": " + statement
			}
			findings = append(findings, finding.Finding{ID: e.ID, Kind: e.Kind, Schema: e.Schema, Name: e.Tag, Harmless: true, Message: message})
		}
	case (e.Kind == "TABLE" || e.Kind == "SEQUENCE") && !w.KeepUnlogged:
		sql = Logged(sql)
	}
	if e.Kind == "TABLE" || e.Kind == "FOREIGN TABLE" {
		for _, d := range w.Disordered {
			if d.OID == e.OID {
				sql = ordered(sql, d, w.Major)
			}
		}
	}
	if e.AccessMethod == "" || e.Kind != "TABLE" && e.Kind != "MATERIALIZED VIEW" {
		return sql, findings
	}
	if e.RelKind == relkindPartitioned {
		return sql + "\n;ALTER TABLE " + pg.Name{Schema: e.Schema, Name: e.Tag}.String() +
			" SET ACCESS METHOD " + pg.QuoteIdent(e.AccessMethod), findings
	}
	return "SET LOCAL default_table_access_method = " + pg.QuoteIdent(e.AccessMethod) + ";\n" + sql, findings
}

// Logged makes the definition of an unlogged table or sequence one of a logged
// relation: on the target an unlogged one would be emptied at each restart.
func Logged(sql string) string {
	var edits []sqltext.Edit
	for _, s := range sqltext.Split(sql) {
		switch {
		case s.Words(0, "create", "unlogged") && len(s.Tokens) > 2:
			edits = append(edits, sqltext.Edit{Start: s.Tokens[1].Start, End: s.Tokens[2].Start})
		case s.Words(0, "alter", "sequence") || s.Words(0, "alter", "table"):
			for i := s.Find(2, "set"); i >= 0; i = s.Find(i+1, "set") {
				if s.Word(i+1, "unlogged") {
					edits = append(edits, sqltext.Edit{Start: s.Tokens[i+1].Start, End: s.Tokens[i+1].End, Text: "LOGGED"})
				}
			}
		}
	}
	return sqltext.Apply(sql, edits)
}

// notValid adds NOT VALID to the ALTER TABLE … ADD CONSTRAINT … FOREIGN KEY of
// pg_dump. A constraint that is not valid, or not enforced, on the source stays
// as it is; then changed is false.
func notValid(sql string) (out string, changed bool) {
	statements := sqltext.Split(sql)
	for _, s := range statements {
		key := foreignKeyAt(s)
		if key < 0 {
			continue
		}
		if !validated(s, key) {
			return sql, false
		}
		end := s.Tokens[len(s.Tokens)-1].End
		return sqltext.Apply(sql, []sqltext.Edit{{Start: end, End: end, Text: " NOT VALID"}}), true
	}
	return sql, false
}

// foreignKeyAt returns the index of the word FOREIGN of a statement that adds a foreign key to a
// table, or -1. A statement that ends inside of parentheses is none: no word could be added to it.
func foreignKeyAt(s sqltext.Statement) int {
	if !s.Words(0, "alter", "table") || !s.Closed() {
		return -1
	}
	at := s.Find(2, "foreign")
	if at < 0 || !s.Word(at+1, "key") || s.Find(2, "constraint") != at-2 {
		return -1
	}
	return at
}

// validated reports whether the foreign key whose definition begins at token
// key is neither NOT VALID nor NOT ENFORCED.
func validated(s sqltext.Statement, key int) bool {
	for i := s.Find(key, "not"); i >= 0; i = s.Find(i+1, "not") {
		if s.Word(i+1, "valid") || s.Word(i+1, "enforced") {
			return false
		}
	}
	return true
}

// foreignKeyClause returns "FOREIGN KEY (…) REFERENCES …" of a statement that
// adds one, without its semicolon, and whether it is to be validated.
func foreignKeyClause(sql string) (clause string, valid, ok bool) {
	for _, s := range sqltext.Split(sql) {
		if key := foreignKeyAt(s); key >= 0 {
			return sql[s.Tokens[key].Start:s.Tokens[len(s.Tokens)-1].End], validated(s, key), true
		}
	}
	return "", false, false
}

// checkNotValid adds NOT VALID to ALTER … ADD CONSTRAINT … CHECK of a table or a domain, and
// returns the statement that validates it then. A constraint that is not valid, or not enforced, on
// the source stays as it is; then validation is "".
func checkNotValid(sql string) (out, validation string) {
	for _, s := range sqltext.Split(sql) {
		add := s.Find(2, "add")
		if !s.Word(0, "alter") || add < 0 || !s.Word(add+1, "constraint") || !s.Word(add+3, "check") || !s.Closed() {
			continue
		}
		if !validated(s, add+3) {
			return sql, ""
		}
		end := s.Tokens[len(s.Tokens)-1].End
		return sqltext.Apply(sql, []sqltext.Edit{{Start: end, End: end, Text: " NOT VALID"}}), s.Between(0, add) + " VALIDATE CONSTRAINT " + s.Between(add+2, add+3)
	}
	return sql, ""
}

// KindProperties is pg_dump's word for what ALTER DATABASE, and ALTER ROLE … IN DATABASE, have set.
const KindProperties = "DATABASE PROPERTIES"

// properties cuts the properties of a database into entries of one statement each, so that one that
// the target refuses does not take the others with it. next hands out ids.
func properties(e *archive.Entry, next func() int) []archive.Entry {
	var out []archive.Entry
	for _, s := range sqltext.Split(e.Definition) {
		tag := ""
		switch at := s.Find(0, "set"); {
		case at < 0: // CONNECTION LIMIT, IS_TEMPLATE: of that database alone
			continue
		case s.Words(0, "alter", "role"):
			role, _ := s.Identifier(2)
			name, _ := s.Identifier(at + 1)
			tag = name + " of role " + role
		default:
			tag, _ = s.Identifier(at + 1)
		}
		out = append(out, archive.Entry{ID: next(), Kind: KindProperties, Tag: tag, Section: e.Section, Definition: s.Text() + ";"})
	}
	return out
}

// OfDatabase reports whether an entry says something of the database itself.
func OfDatabase(e *archive.Entry) bool {
	switch e.Kind {
	case KindProperties:
		return true
	case "ACL", "COMMENT", "SECURITY LABEL":
		return slices.ContainsFunc(sqltext.Split(e.Definition), func(s sqltext.Statement) bool { return databaseToken(s) >= 0 })
	}
	return false
}

// databaseToken finds the name of the database that a statement is about, -1 if
// it is about something else.
func databaseToken(s sqltext.Statement) int {
	at := -1
	switch {
	case s.Words(0, "alter", "database"):
		at = 2
	case s.Words(0, "alter", "role") && s.Words(3, "in", "database"):
		at = 5
	case s.Words(0, "comment", "on", "database"):
		at = 3
	case s.Words(0, "security", "label"):
		if on := s.Find(2, "on"); on > 0 && s.Word(on+1, "database") {
			at = on + 2
		}
	case s.Word(0, "grant") || s.Word(0, "revoke"):
		if on := s.Find(1, "on"); on > 0 && s.Word(on+1, "database") {
			at = on + 2
		}
	}
	if _, ok := s.Identifier(at); !ok {
		return -1
	}
	return at
}

// OfTarget puts the name of the target's database in the place of the source's.
func OfTarget(sql, database string) string {
	var edits []sqltext.Edit
	for _, s := range sqltext.Split(sql) {
		if i := databaseToken(s); i >= 0 {
			edits = append(edits, sqltext.Edit{Start: s.Tokens[i].Start, End: s.Tokens[i].End, Text: pg.QuoteIdent(database)})
		}
	}
	return sqltext.Apply(sql, edits)
}

// generatedParents is the first major version that wants a generated column's parent
// to be generated too, and lets the child say how; before it, the child may say so
// only where the parent is not.
const generatedParents = 16

// ordered makes the definition of a child of table inheritance one that puts its
// columns where the source has them. Crossfade's own schema lends it a first parent,
// with nothing but the columns in that order, for as long as it takes to create
// it: what the definition says of the columns, and which of them are the parents' own,
// stays pg_dump's word. A definition without parents is left as it is.
func ordered(sql string, d catalog.Disordered, major int) string {
	statements := sqltext.Split(sql)
	if len(statements) == 0 || !statements[0].Word(0, "create") {
		return sql
	}
	at := statements[0].Find(1, "inherits")
	if at < 0 || !statements[0].Punct(at+1, '(') {
		return sql
	}
	first := statements[0].Tokens[at+1].End
	lent := pg.Name{Schema: catalog.OwnSchema, Name: "order_" + strconv.FormatUint(uint64(d.OID), 10)}.String()
	columns := make([]string, len(d.Columns))
	var storage strings.Builder
	for i, c := range d.Columns {
		name := pg.QuoteIdent(c.Name)
		columns[i] = name + " " + c.Type
		if c.Collation != "" {
			columns[i] += " COLLATE " + c.Collation
		}
		if c.Generated != 0 && (c.Inherited || major >= generatedParents) {
			columns[i] += " GENERATED ALWAYS AS (" + c.Expression + ")"
			if c.Generated == catalog.GeneratedStored {
				columns[i] += " STORED"
			}
		}
		if c.Storage != "" {
			storage.WriteString("ALTER TABLE " + lent + " ALTER COLUMN " + name + " SET STORAGE " + c.Storage + ";\n")
		}
	}
	return "CREATE TABLE " + lent + " (" + strings.Join(columns, ", ") + ");\n" + storage.String() +
		sql[:first] + lent + ", " + sql[first:] +
		"\n;ALTER TABLE " + d.Name.String() + " NO INHERIT " + lent + ";\nDROP TABLE " + lent
}
