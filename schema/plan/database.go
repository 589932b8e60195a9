package plan

import (
	"slices"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
)

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
