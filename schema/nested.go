package schema

import (
	"slices"
	"strings"
)

// nested reports whether values of a type may be parts of others: of a composite type, an array,
// a range or a table's row. known are the entries that are being asked already.
func nested(a *Archive, e *Entry, known []*Entry) bool {
	known = append(known, e)
	for i := range a.Entries {
		x := &a.Entries[i]
		if x == e || x.Kind != "TYPE" && x.Kind != "DOMAIN" && x.Kind != "TABLE" && x.Kind != "FOREIGN TABLE" {
			continue
		}
		within, array := mentions(x.Definition, e)
		switch {
		case array || within && x.Kind == "TYPE":
			return true
		case within && e.Kind == "TABLE":
			return true // its row is a column, or it has children
		case within && !slices.Contains(known, x) && nested(a, x, known):
			return true
		}
	}
	return false
}

// mentions reports whether a definition names a type, and whether it has arrays of it.
func mentions(sql string, e *Entry) (named, array bool) {
	if !strings.Contains(sql, e.Tag) {
		return false, false
	}
	s := statement{sql: sql, tokens: lex(sql)}
	for i := range s.tokens {
		schema, ok := s.identifier(i)
		if !ok || schema != e.Schema || !s.punct(i+1, '.') || s.punct(i-1, '.') {
			continue
		}
		if name, ok := s.identifier(i + 2); ok && name == e.Tag {
			named = true
			array = array || s.punct(i+3, '[')
		}
	}
	return named, array
}
