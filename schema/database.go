package schema

import (
	"slices"

	"crossfade/internal/pg"
)

// kindProperties is pg_dump's word for what ALTER DATABASE, and ALTER ROLE … IN
// DATABASE, have set.
const kindProperties = "DATABASE PROPERTIES"

// properties cuts the properties of a database into entries of one statement
// each, so that one that the target refuses does not take the others with it.
// next hands out ids.
func properties(e *Entry, next func() int) []Entry {
	var out []Entry
	for _, s := range split(e.Definition) {
		tag := ""
		switch at := s.find(0, "set"); {
		case at < 0: // CONNECTION LIMIT, IS_TEMPLATE: of that database alone
			continue
		case s.words(0, "alter", "role"):
			role, _ := s.identifier(2)
			name, _ := s.identifier(at + 1)
			tag = name + " of role " + role
		default:
			tag, _ = s.identifier(at + 1)
		}
		out = append(out, Entry{ID: next(), Kind: kindProperties, Tag: tag, Section: e.Section, Definition: s.text() + ";"})
	}
	return out
}

// ofDatabase reports whether an entry says something of the database itself.
func ofDatabase(e *Entry) bool {
	switch e.Kind {
	case kindProperties:
		return true
	case "ACL", "COMMENT", "SECURITY LABEL":
		return slices.ContainsFunc(split(e.Definition), func(s statement) bool { return databaseToken(s) >= 0 })
	}
	return false
}

// databaseToken finds the name of the database that a statement is about, -1 if
// it is about something else.
func databaseToken(s statement) int {
	at := -1
	switch {
	case s.words(0, "alter", "database"):
		at = 2
	case s.words(0, "alter", "role") && s.words(3, "in", "database"):
		at = 5
	case s.words(0, "comment", "on", "database"):
		at = 3
	case s.words(0, "security", "label"):
		if on := s.find(2, "on"); on > 0 && s.word(on+1, "database") {
			at = on + 2
		}
	case s.word(0, "grant") || s.word(0, "revoke"):
		if on := s.find(1, "on"); on > 0 && s.word(on+1, "database") {
			at = on + 2
		}
	}
	if _, ok := s.identifier(at); !ok {
		return -1
	}
	return at
}

// ofTarget puts the name of the target's database in the place of the source's.
func ofTarget(sql, database string) string {
	var edits []edit
	for _, s := range split(sql) {
		if i := databaseToken(s); i >= 0 {
			edits = append(edits, edit{start: s.tokens[i].start, end: s.tokens[i].end, text: pg.QuoteIdent(database)})
		}
	}
	return apply(sql, edits)
}
