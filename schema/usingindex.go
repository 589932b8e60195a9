package schema

import "strings"

// parted is an entry whose index is built by a statement of its own: one that
// shares its table with other builds, while the rest needs the table for itself.
type parted struct {
	index string // CREATE INDEX
	rest  string // what follows it, "" for nothing
}

// partIndex takes a plain index apart from the statements behind it, and makes
// an index and a constraint on it of a primary key or unique constraint. ok is
// false for everything else: partitioned tables and constraints WITHOUT OVERLAPS
// cannot take an index that is there.
func partIndex(e *Entry) (p parted, ok bool) {
	statements := split(e.Definition)
	if len(statements) == 0 {
		return parted{}, false
	}
	first := statements[0]
	rest := strings.TrimSpace(e.Definition[first.end:])
	switch e.Kind {
	case "INDEX":
		return parted{index: first.text(), rest: rest}, first.word(0, "create")
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
func indexOfConstraint(s statement) (parted, bool) {
	add := s.find(3, "add")
	if !s.words(0, "alter", "table", "only") || add < 0 || !s.word(add+1, "constraint") {
		return parted{}, false
	}
	if _, named := s.identifier(add + 2); !named {
		return parted{}, false
	}
	at, kind := add+4, "UNIQUE"
	if s.words(add+3, "primary", "key") {
		at, kind = add+5, "PRIMARY KEY"
	} else if !s.word(add+3, "unique") {
		return parted{}, false
	}
	nulls := ""
	if s.words(at, "nulls", "not", "distinct") {
		at, nulls = at+3, " NULLS NOT DISTINCT"
	}
	columns, at, ok := s.parentheses(at)
	if !ok || strings.Contains(strings.ToUpper(columns), " WITHOUT OVERLAPS") {
		return parted{}, false
	}
	index := columns
	if s.word(at, "include") {
		var included string
		if included, at, ok = s.parentheses(at + 1); !ok {
			return parted{}, false
		}
		index += " INCLUDE " + included
	}
	index += nulls
	if s.word(at, "with") {
		var options string
		if options, at, ok = s.parentheses(at + 1); !ok {
			return parted{}, false
		}
		index += " WITH " + options
	}
	tail := ""
	if at < len(s.tokens) {
		if !s.word(at, "deferrable") {
			return parted{}, false
		}
		tail = " " + s.sql[s.tokens[at].start:s.tokens[len(s.tokens)-1].end]
	}
	table := s.sql[s.tokens[3].start:s.tokens[add-1].end]
	name := s.sql[s.tokens[add+2].start:s.tokens[add+2].end]
	return parted{
		index: "CREATE UNIQUE INDEX " + name + " ON " + table + " " + index,
		rest:  "ALTER TABLE ONLY " + table + " ADD CONSTRAINT " + name + " " + kind + " USING INDEX " + name + tail,
	}, true
}

// parentheses returns the text from the opening parenthesis that token i is to
// the one that closes it, and the token behind that.
func (s statement) parentheses(i int) (text string, next int, ok bool) {
	if !s.punct(i, '(') {
		return "", i, false
	}
	for n := i + 1; n < len(s.tokens); n++ {
		if s.tokens[n].depth == s.tokens[i].depth && s.punct(n, ')') {
			return s.sql[s.tokens[i].start:s.tokens[n].end], n + 1, true
		}
	}
	return "", i, false
}
