package plan

import (
	"slices"
	"strings"

	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
)

// nested reports whether values of a type may be parts of others: of a composite type, an array,
// a range or a table's row. known are the entries that are being asked already.
func nested(a *archive.Archive, e *archive.Entry, known []*archive.Entry) bool {
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
func mentions(sql string, e *archive.Entry) (named, array bool) {
	if !strings.Contains(sql, e.Tag) {
		return false, false
	}
	s := sqltext.Whole(sql)
	for i := range s.Tokens {
		schema, ok := s.Identifier(i)
		if !ok || schema != e.Schema || !s.Punct(i+1, '.') || s.Punct(i-1, '.') {
			continue
		}
		if name, ok := s.Identifier(i + 2); ok && name == e.Tag {
			named = true
			array = array || s.Punct(i+3, '[')
		}
	}
	return named, array
}
