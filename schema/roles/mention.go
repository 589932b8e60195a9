package roles

import (
	"slices"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
)

// Map puts the target's role names in the place of the source's. Changes
// of the session's authorization, and statements about roles of the source's
// platform that nothing is mapped to, are left out; the latter are returned.
func Map(sql string, roles map[string]string) (mapped string, left []string) {
	var edits []sqltext.Edit
	for _, s := range sqltext.Split(sql) {
		if s.Words(0, "set", "session", "authorization") || s.Words(0, "reset", "session", "authorization") {
			edits = append(edits, sqltext.Edit{Start: s.Start, End: s.End})
			continue
		}
		var changes []sqltext.Edit
		foreign := false
		for _, i := range Tokens(s) {
			name, ok := s.Identifier(i)
			if !ok {
				continue
			}
			if to, ok := roles[name]; ok {
				changes = append(changes, sqltext.Edit{Start: s.Tokens[i].Start, End: s.Tokens[i].End, Text: pg.QuoteIdent(to)})
			} else if slices.Contains(PlatformRoles, name) {
				foreign = true
			}
		}
		if foreign {
			edits = append(edits, sqltext.Edit{Start: s.Start, End: s.End})
			left = append(left, s.Text())
			continue
		}
		edits = append(edits, changes...)
	}
	return sqltext.Apply(sql, edits), left
}

// Tokens finds the tokens of a statement that are names of roles, in order.
func Tokens(s sqltext.Statement) []int {
	switch {
	case s.Word(0, "grant") || s.Word(0, "revoke"):
		return grantees(s, 0)
	case s.Words(0, "alter", "default", "privileges"):
		var out []int
		i := 3
		if s.Words(i, "for", "role") || s.Words(i, "for", "user") {
			out = roleList(s, i+2)
		}
		if at := s.Find(i, "grant", "revoke"); at >= 0 {
			out = append(out, grantees(s, at)...)
		}
		return out
	case s.Words(0, "alter", "role"):
		return roleList(s, 2)
	case s.Words(0, "create", "policy"):
		if at := s.Find(2, "to", "using", "with"); at >= 0 && s.Word(at, "to") {
			return roleList(s, at+1)
		}
	case s.Words(0, "create", "user", "mapping"):
		if at := s.Find(3, "for"); at >= 0 {
			return roleList(s, at+1)
		}
	}
	return nil
}

// grantees finds the roles of the GRANT or REVOKE that begins at token i. TO
// and FROM are reserved words, so that no name reads as one without quotes.
func grantees(s sqltext.Statement, i int) []int {
	if at := s.Find(i, "to", "from"); at >= 0 {
		return roleList(s, at+1)
	}
	return nil
}

// roleList finds the names of a list that is separated by commas, without PUBLIC.
func roleList(s sqltext.Statement, i int) []int {
	var out []int
	for ; i < len(s.Tokens); i += 2 {
		if _, ok := s.Identifier(i); !ok {
			break
		}
		if !s.Word(i, "public") {
			out = append(out, i)
		}
		if !s.Punct(i+1, ',') {
			break
		}
	}
	return out
}

// Sorted puts the roles of CREATE POLICY statements into the order of their names. pg_dump writes
// them in that of pg_authid's rows, which any ALTER ROLE changes, and which is another one on each
// server.
func Sorted(sql string) string {
	var edits []sqltext.Edit
	for _, s := range sqltext.Split(sql) {
		if !s.Words(0, "create", "policy") {
			continue
		}
		at := Tokens(s)
		var names []string
		for _, i := range at {
			name, _ := s.Identifier(i)
			names = append(names, name)
		}
		slices.Sort(names)
		for n, i := range at {
			edits = append(edits, sqltext.Edit{Start: s.Tokens[i].Start, End: s.Tokens[i].End, Text: pg.QuoteIdent(names[n])})
		}
	}
	return sqltext.Apply(sql, edits)
}
