package restore

import (
	"strings"

	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
)

// parted is an entry whose index is built by a statement of its own: one that
// shares its table with other builds, while the rest needs the table for itself.
type parted struct {
	index string // CREATE INDEX
	rest  string // what follows it, "" for nothing
}

// partIndex separates a plain index from the statements after it, and splits a primary key or
// unique constraint into an index and a constraint that uses it. ok is false for everything else:
// partitioned tables and constraints WITHOUT OVERLAPS cannot use an existing index.
func partIndex(e *archive.Entry) (p parted, ok bool) {
	statements := sqltext.Split(e.Definition)
	if len(statements) == 0 {
		return parted{}, false
	}
	first := statements[0]
	rest := strings.TrimSpace(e.Definition[first.End:])
	switch e.Kind {
	case "INDEX":
		return parted{index: first.Text(), rest: rest}, first.Word(0, "create")
	case "CONSTRAINT":
		p, ok = indexOfConstraint(first)
		if rest != "" {
			p.rest += ";\n" + rest
		}
		return p, ok
	}
	return parted{}, false
}

// indexOfConstraint reads ALTER TABLE ONLY t ADD CONSTRAINT c PRIMARY KEY (…), as
// pg_dump writes it, with all that may follow.
func indexOfConstraint(s sqltext.Statement) (parted, bool) {
	add := s.Find(3, "add")
	if !s.Words(0, "alter", "table", "only") || add < 0 || !s.Word(add+1, "constraint") {
		return parted{}, false
	}
	if _, named := s.Identifier(add + 2); !named {
		return parted{}, false
	}
	at, kind := add+4, "UNIQUE"
	if s.Words(add+3, "primary", "key") {
		at, kind = add+5, "PRIMARY KEY"
	} else if !s.Word(add+3, "unique") {
		return parted{}, false
	}
	nulls := ""
	if s.Words(at, "nulls", "not", "distinct") {
		at, nulls = at+3, " NULLS NOT DISTINCT"
	}
	columns, at, ok := s.Parentheses(at)
	if !ok || strings.Contains(strings.ToUpper(columns), " WITHOUT OVERLAPS") {
		return parted{}, false
	}
	index := columns
	if s.Word(at, "include") {
		var included string
		if included, at, ok = s.Parentheses(at + 1); !ok {
			return parted{}, false
		}
		index += " INCLUDE " + included
	}
	index += nulls
	if s.Word(at, "with") {
		var options string
		if options, at, ok = s.Parentheses(at + 1); !ok {
			return parted{}, false
		}
		index += " WITH " + options
	}
	tail := ""
	if at < len(s.Tokens) {
		if !s.Word(at, "deferrable") {
			return parted{}, false
		}
		tail = " " + s.SQL[s.Tokens[at].Start:s.Tokens[len(s.Tokens)-1].End]
	}
	table := s.SQL[s.Tokens[3].Start:s.Tokens[add-1].End]
	name := s.SQL[s.Tokens[add+2].Start:s.Tokens[add+2].End]
	return parted{
		index: "CREATE UNIQUE INDEX " + name + " ON " + table + " " + index,
		rest:  "ALTER TABLE ONLY " + table + " ADD CONSTRAINT " + name + " " + kind + " USING INDEX " + name + tail,
	}, true
}
