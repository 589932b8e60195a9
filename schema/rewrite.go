package schema

// logged makes the definition of an unlogged table or sequence one of a logged
// relation: on the target an unlogged one would be emptied at each restart.
func logged(sql string) string {
	var edits []edit
	for _, s := range split(sql) {
		switch {
		case s.words(0, "create", "unlogged") && len(s.tokens) > 2:
			edits = append(edits, edit{start: s.tokens[1].start, end: s.tokens[2].start})
		case s.words(0, "alter", "sequence") || s.words(0, "alter", "table"):
			for i := s.find(2, "set"); i >= 0; i = s.find(i+1, "set") {
				if s.word(i+1, "unlogged") {
					edits = append(edits, edit{start: s.tokens[i+1].start, end: s.tokens[i+1].end, text: "LOGGED"})
				}
			}
		}
	}
	return apply(sql, edits)
}

// notValid adds NOT VALID to the ALTER TABLE … ADD CONSTRAINT … FOREIGN KEY of
// pg_dump. A constraint that is not valid, or not enforced, on the source stays
// as it is; then changed is false.
func notValid(sql string) (out string, changed bool) {
	statements := split(sql)
	for _, s := range statements {
		key := foreignKeyAt(s)
		if key < 0 {
			continue
		}
		if !validated(s, key) {
			return sql, false
		}
		end := s.tokens[len(s.tokens)-1].end
		return apply(sql, []edit{{start: end, end: end, text: " NOT VALID"}}), true
	}
	return sql, false
}

// foreignKeyAt returns the index of the word FOREIGN of a statement that adds a
// foreign key to a table, or -1. A statement that ends inside of parentheses is
// none: no word could be added to it.
func foreignKeyAt(s statement) int {
	if !s.words(0, "alter", "table") || !s.closed() {
		return -1
	}
	at := s.find(2, "foreign")
	if at < 0 || !s.word(at+1, "key") || s.find(2, "constraint") != at-2 {
		return -1
	}
	return at
}

// validated reports whether the foreign key whose definition begins at token
// key is neither NOT VALID nor NOT ENFORCED.
func validated(s statement, key int) bool {
	for i := s.find(key, "not"); i >= 0; i = s.find(i+1, "not") {
		if s.word(i+1, "valid") || s.word(i+1, "enforced") {
			return false
		}
	}
	return true
}

// foreignKeyClause returns "FOREIGN KEY (…) REFERENCES …" of a statement that
// adds one, without its semicolon, and whether it is to be validated.
func foreignKeyClause(sql string) (clause string, valid, ok bool) {
	for _, s := range split(sql) {
		if key := foreignKeyAt(s); key >= 0 {
			return sql[s.tokens[key].start:s.tokens[len(s.tokens)-1].end], validated(s, key), true
		}
	}
	return "", false, false
}

// checkNotValid adds NOT VALID to ALTER … ADD CONSTRAINT … CHECK of a table or a domain, and
// returns the statement that validates it then. A constraint that is not valid, or not enforced, on the
// source stays as it is; then validation is "".
func checkNotValid(sql string) (out, validation string) {
	for _, s := range split(sql) {
		add := s.find(2, "add")
		if !s.word(0, "alter") || add < 0 || !s.word(add+1, "constraint") || !s.word(add+3, "check") || !s.closed() {
			continue
		}
		if !validated(s, add+3) {
			return sql, ""
		}
		end := s.tokens[len(s.tokens)-1].end
		return apply(sql, []edit{{start: end, end: end, text: " NOT VALID"}}), s.between(0, add) + " VALIDATE CONSTRAINT " + s.between(add+2, add+3)
	}
	return sql, ""
}
