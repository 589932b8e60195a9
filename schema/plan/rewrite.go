package plan

import "crossfade/internal/base/sqltext"

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
