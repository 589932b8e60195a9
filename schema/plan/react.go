package plan

import (
	"slices"
	"strings"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
)

// kindCheck is pg_dump's word for a check constraint that has an entry of its own.
const kindCheck = "CHECK CONSTRAINT"

// classConstraint is the oid of pg_constraint.
const classConstraint = 2606

// ParseArchive reads the header and the table of contents of an archive that pg_dump wrote. Check
// constraints that may answer otherwise for the same row are entries of their own (see separate).
func ParseArchive(data []byte) (*archive.Archive, error) {
	a, err := archive.Parse(data)
	if err != nil {
		return nil, err
	}
	separate(a)
	return a, nil
}

// separate gives an entry of its own to each check constraint of a table or a domain whose result
// for the same row may change, as pg_dump does with those that are not valid: one that calls
// functions of the database, which may read other tables, or that depends on the time, the role or
// a setting. The rows of the source have passed it at another moment, under other settings and next
// to other rows. The same archive gives the same entries, with the same numbers; those of children
// come before their parents'.
func separate(a *archive.Archive) {
	o := ownObjects(a)
	var made []archive.Entry
	last := a.LastID()
	for i := range a.Entries {
		e := &a.Entries[i]
		if e.Kind != "TABLE" && e.Kind != "DOMAIN" {
			continue
		}
		definition, late := o.withoutReacting(e)
		if len(late) > 0 && e.Kind == "DOMAIN" && nested(a, e, nil) {
			continue // PostgreSQL validates no constraint of a domain that is a part of other types
		}
		e.Definition = definition
		for _, x := range late {
			last++
			x.ID = last
			made = append(made, x)
		}
	}
	if len(made) == 0 {
		return
	}
	slices.Reverse(made)
	comments := follow(a, made)
	a.Entries = slices.Concat(a.Entries, made, comments)
}

// follow takes comments on constraints out, which depend on the entries that make these now.
func follow(a *archive.Archive, made []archive.Entry) (comments []archive.Entry) {
	ids := map[string]int{}
	for _, x := range made {
		ids[x.Schema+"."+x.Tag] = x.ID
	}
	a.Entries = slices.DeleteFunc(a.Entries, func(e archive.Entry) bool {
		if e.Kind != "COMMENT" || !strings.HasPrefix(e.Definition, "COMMENT ON CONSTRAINT") {
			return false
		}
		for _, s := range sqltext.Split(e.Definition) {
			name, named := s.Identifier(3)
			at := 5 // COMMENT ON CONSTRAINT c ON
			if s.Word(at, "domain") {
				at++
			}
			schema, _ := s.Identifier(at)
			of, ok := s.Identifier(at + 2)
			if id := ids[schema+"."+of+" "+name]; named && ok && id != 0 {
				e.Dependencies = append(slices.Clone(e.Dependencies), id)
				comments = append(comments, e)
				return true
			}
		}
		return false
	})
	return comments
}

// objects are what of an archive an expression may call, by schema and name.
type objects struct {
	functions, operators, domains map[string]bool
	casts                         bool // some are functions
}

func ownObjects(a *archive.Archive) objects {
	o := objects{functions: map[string]bool{}, operators: map[string]bool{}, domains: map[string]bool{}}
	for i := range a.Entries {
		e := &a.Entries[i]
		switch e.Kind {
		case "FUNCTION", "AGGREGATE":
			name, _, _ := strings.Cut(e.Tag, "(")
			o.functions[e.Schema+"."+name] = true
		case "OPERATOR":
			o.operators[e.Schema+"."+e.Tag] = true
		case "DOMAIN":
			o.domains[e.Schema+"."+e.Tag] = true
		case "CAST":
			o.casts = o.casts || strings.Contains(e.Definition, " WITH FUNCTION ")
		}
	}
	return o
}

// withoutReacting takes the constraints that react out of a definition.
func (o objects) withoutReacting(e *archive.Entry) (sql string, late []archive.Entry) {
	if !strings.Contains(e.Definition, "CHECK") {
		return e.Definition, nil
	}
	for _, s := range sqltext.Split(e.Definition) {
		var name string
		var found []check
		var change sqltext.Edit
		if e.Kind == "DOMAIN" {
			name, found, change = o.ofDomain(s)
		} else {
			name, found, change = o.ofTable(s)
		}
		if name == "" {
			continue
		}
		if len(found) == 0 {
			break
		}
		for _, c := range found {
			late = append(late, archive.Entry{TableOID: classConstraint, Tag: e.Tag + " " + c.name, Kind: kindCheck, Section: archive.SectionPostData, Schema: e.Schema, Owner: e.Owner,
				Definition:   "ALTER " + e.Kind + " " + name + "\n    ADD " + c.Text() + ";\n",
				Drop:         "ALTER " + e.Kind + " " + name + " DROP CONSTRAINT " + c.Between(1, 2) + ";\n",
				Dependencies: append([]int{e.ID}, e.Dependencies...)})
		}
		return sqltext.Apply(e.Definition, []sqltext.Edit{change}), late
	}
	return e.Definition, nil
}

// check is CONSTRAINT name CHECK (…) inside of a definition, which is enforced.
type check struct {
	sqltext.Statement
	name string
}

func checkIn(s sqltext.Statement) (check, bool) {
	name, named := s.Identifier(1)
	if !named || !s.Word(0, "constraint") || !s.Word(2, "check") {
		return check{}, false
	}
	for i := s.Find(3, "not"); i >= 0; i = s.Find(i+1, "not") {
		if s.Word(i+1, "enforced") {
			return check{}, false
		}
	}
	return check{s, name}, true
}

// ofTable returns the name of the table that a statement makes, as it stands there, its
// constraints that react, and what leaves these out. The name is "" for another statement.
func (o objects) ofTable(s sqltext.Statement) (table string, late []check, change sqltext.Edit) {
	at := s.Find(0, "table")
	if !s.Word(0, "create") || at < 1 || at > 2 {
		return "", nil, sqltext.Edit{}
	}
	open := s.Open()
	items, next, ok := s.List(open)
	if !ok {
		return "", nil, sqltext.Edit{}
	}
	end := open
	if of := s.Find(at+1, "of"); of > 0 && of < open {
		end = of
	}
	var times times
	for _, x := range items {
		if name, ok := x.Identifier(0); ok && !x.Word(0, "constraint") && len(x.Tokens) > 1 {
			times.add(name, x.Between(1, len(x.Tokens)))
		}
	}
	var kept []string
	for _, x := range items {
		if c, ok := checkIn(x); ok && o.reacts(c, times) {
			late = append(late, c)
		} else {
			kept = append(kept, x.Text())
		}
	}
	change = sqltext.Edit{Start: s.Tokens[open].End, End: s.Tokens[next-1].Start, Text: "\n    " + strings.Join(kept, ",\n    ") + "\n"}
	return s.Between(at+1, end), late, change
}

// ofDomain is ofTable for a domain.
func (o objects) ofDomain(s sqltext.Statement) (domain string, late []check, change sqltext.Edit) {
	as := s.Find(2, "as")
	if !s.Words(0, "create", "domain") || as < 0 {
		return "", nil, sqltext.Edit{}
	}
	var starts []int
	for i := s.Find(as, "constraint"); i >= 0; i = s.Find(i+1, "constraint") {
		starts = append(starts, i)
	}
	if len(starts) == 0 {
		return s.Between(2, as), nil, sqltext.Edit{}
	}
	var times times
	times.add("value", s.Between(as+1, starts[0]))
	kept := ""
	for n, i := range starts {
		end := len(s.Tokens)
		if n+1 < len(starts) {
			end = starts[n+1]
		}
		x := sqltext.Statement{SQL: s.SQL, Tokens: s.Tokens[i:end], Start: s.Tokens[i].Start, End: s.Tokens[end-1].End}
		if c, ok := checkIn(x); ok && o.reacts(c, times) {
			late = append(late, c)
		} else {
			kept += "\n\t" + x.Text()
		}
	}
	last := len(s.Tokens) - 1
	return s.Between(2, as), late, sqltext.Edit{Start: s.Tokens[starts[0]-1].End, End: s.Tokens[last].End, Text: kept}
}

// times are columns that hold a date or a time.
type times struct{ zoned, plain []string }

func (t *times) add(column, definition string) {
	switch text := strings.ToLower(definition); {
	case strings.Contains(text, "with time zone"):
		t.zoned = append(t.zoned, column)
	case isTimed(text):
		t.plain = append(t.plain, column)
	}
}

// timedTypes are how types of dates and times begin that have no time zone.
var timedTypes = []string{"date", "timestamp", "time", "interval"}

func isTimed(text string) bool {
	return slices.ContainsFunc(timedTypes, func(t string) bool {
		return text == t || strings.HasPrefix(text, t+" ") || strings.HasPrefix(text, t+"(")
	})
}

var (
	// Words and functions of PostgreSQL whose value depends on the moment, the session or the role.
	// Others that are not immutable take a type with a time zone.
	momentaryWords = words("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "current_user", "current_role",
		"session_user", "system_user", "user", "current_catalog", "current_schema")
	momentaryFunctions = words("now", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday", "random", "gen_random_uuid",
		"current_setting", "current_database", "current_schemas", "pg_backend_pid", "txid_current", "pg_current_xact_id", "inet_client_addr",
		"inet_server_addr", "age", "to_date", "to_timestamp", "to_char", "to_regclass", "to_regtype", "to_regproc", "to_regprocedure", "to_tsvector", "to_tsquery",
		"plainto_tsquery", "nextval", "currval", "lastval", "pg_typeof", "has_table_privilege", "pg_has_role", "concat", "concat_ws", "format", "version")
	// Types that the settings of the session say how to read.
	readTypes = words("date", "time", "timestamp", "timestamptz", "interval", "money", "regclass", "regtype", "regproc", "regprocedure", "regrole", "regnamespace", "regconfig")
)

func words(names ...string) map[string]bool { return lists.Set(names) }

// reacts reports whether a constraint's answer may be another one although the row is the same.
func (o objects) reacts(c check, t times) bool {
	zoned, plain, calls := false, false, false
	for i := 3; i < len(c.Tokens); i++ {
		if o.calls(c.Statement, i) {
			return true
		}
		name, ok := c.Identifier(i)
		if !ok || c.Punct(i-1, '.') {
			continue
		}
		word := c.Tokens[i].Kind == sqltext.Word
		called := c.Punct(i+1, '(')
		cast := c.Punct(i-1, ':') && c.Punct(i-2, ':')
		literal := cast && c.Tokens[i-3].Kind == sqltext.String
		switch {
		case word && momentaryWords[name] && !cast && !called, called && momentaryFunctions[name]:
			return true
		case cast && readTypes[name] && !literal:
			return true
		case cast:
			withZone := c.Words(i+1, "with", "time", "zone")
			zoned, plain = zoned || withZone, plain || readTypes[name] && !withZone
			calls = calls || !literal
		case called && !notCalled[name]:
			calls = true
		case !called:
			zoned, plain = zoned || slices.Contains(t.zoned, name), plain || slices.Contains(t.plain, name)
		}
	}
	return zoned && (plain || calls) // by the session's time zone
}

// notCalled are words that are followed by parentheses and call nothing.
var notCalled = words("and", "or", "not", "any", "all", "in", "check", "array", "case", "when", "then", "else", "is", "coalesce", "inherit")

// calls reports whether a call of something that the archive has stands at token i.
func (o objects) calls(s sqltext.Statement, i int) bool {
	if s.Word(i, "operator") && s.Punct(i+1, '(') {
		schema, ok := s.Identifier(i + 2)
		if !ok || !s.Punct(i+3, '.') {
			return false
		}
		end := i + 4
		for end < len(s.Tokens) && s.Tokens[end].Depth > s.Tokens[i+1].Depth {
			end++
		}
		return o.operators[schema+"."+s.Between(i+4, end)]
	}
	schema, ok := s.Identifier(i)
	if !ok || !s.Punct(i+1, '.') || s.Punct(i-1, '.') {
		return false
	}
	name, ok := s.Identifier(i + 2)
	if !ok {
		return false
	}
	if s.Punct(i+3, '(') && o.functions[schema+"."+name] {
		return true
	}
	cast := s.Punct(i-1, ':') && s.Punct(i-2, ':')
	return cast && (o.casts || o.domains[schema+"."+name])
}

// callsFunctions reports whether a definition calls a function or an operator by a
// qualified name: one that is not PostgreSQL's own, and whose body may have names that
// are found by way of the search_path.
func callsFunctions(sql string) bool {
	s := sqltext.Whole(sql)
	for i := range s.Tokens {
		if s.Word(i, "operator") && s.Punct(i+1, '(') {
			return true
		}
		if _, ok := s.Identifier(i); !ok || !s.Punct(i+1, '.') || !s.Punct(i+3, '(') || s.Punct(i-1, '.') {
			continue
		}
		if _, ok := s.Identifier(i + 2); !ok {
			continue
		}
		if s.Word(i-1, "table") || s.Word(i-1, "on") || s.Word(i-1, "only") || s.Word(i-1, "references") || s.Word(i-1, "exists") { // the columns of a table
			continue
		}
		return true
	}
	return false
}

// Evaluates reports whether making an object runs expressions of users' functions over rows.
func Evaluates(e *archive.Entry) bool {
	switch e.Kind {
	case "INDEX", "CONSTRAINT", kindCheck:
		return callsFunctions(e.Definition)
	}
	return false
}

// CallsFunctions reports whether storing a row, or making an index or a constraint, calls
// functions that are not PostgreSQL's own: what they find depends on the search_path.
func (p *Plan) CallsFunctions() bool {
	for i := range p.Archive.Entries {
		e := &p.Archive.Entries[i]
		switch e.Kind {
		case "TABLE", "DOMAIN", "INDEX", "CONSTRAINT", kindCheck:
			if callsFunctions(e.Definition) {
				return true
			}
		}
	}
	return false
}

// LateChecks names the check constraints that come with the decision, as they stand in SQL.
func (p *Plan) LateChecks() (names []string) {
	for _, e := range p.Decision {
		if e.Kind != kindCheck {
			continue
		}
		for _, s := range sqltext.Split(e.Definition) {
			if add := s.Find(2, "add"); add > 0 && s.Word(add+1, "constraint") && len(s.Tokens) > add+2 {
				names = append(names, s.Between(add+2, add+3))
			}
		}
	}
	return names
}
