package typemap

import (
	"bytes"
	"strconv"

	"crossfade/internal/base/sqltext"
)

// catalogQuery is what is known of a statement from its text: whether it names a catalog of types
// or regtype, which of its parameters are numbers of types, and where such numbers are in it.
type catalogQuery struct {
	catalog  bool
	params   []int // that are compared with the number of a type, from 0
	literals []span
}

// span is bytes of a text.
type span struct{ from, to int }

// maxScan is how many bytes of a statement are scanned. Queries of the catalog are a page at most.
const maxScan = 64 << 10

// columnsOfTypes are columns of the catalogs that hold numbers of types, whatever the
// table is called in the query. pg_type.oid is not among them: it needs its table.
var columnsOfTypes = map[string]bool{
	"atttypid": true, "enumtypid": true, "rngtypid": true, "rngsubtype": true, "rngmultitypid": true,
	"typelem": true, "typarray": true, "typbasetype": true,
}

var catalogs = [][]byte{[]byte("pg_type"), []byte("pg_enum"), []byte("pg_range"), []byte("pg_attribute")}

var regtype = []byte("regtype")

// scan reads a statement's text. It is lenient: what it does not understand passes unchanged.
func scan(text []byte) catalogQuery {
	var q catalogQuery
	if len(text) > maxScan {
		return q
	}
	for _, name := range catalogs {
		q.catalog = q.catalog || containsFold(text, name)
	}
	if !q.catalog {
		// pgx asks for 'mood'::regtype::oid.
		q.catalog = containsFold(text, regtype)
		return q
	}
	words, spans := split(text)
	not, bare := others(words)
	for i := range words {
		for _, j := range compared(words, i, not, bare) {
			// The text's byte and not the word's: an identifier in quotes may be empty, or look
			// like a parameter or a string.
			switch b := text[spans[j].from]; {
			case b == '$':
				if n, ok := parameter(words[j]); ok {
					q.params = append(q.params, n)
				}
			case b == '\'' || b >= '0' && b <= '9':
				q.literals = append(q.literals, spans[j])
			}
		}
	}
	return q
}

// containsFold looks for a word in lower case that begins with a letter.
func containsFold(text, lower []byte) bool {
	first := string([]byte{lower[0], lower[0] &^ 0x20})
	for len(text) >= len(lower) {
		i := bytes.IndexAny(text, first)
		if i < 0 || len(text)-i < len(lower) {
			return false
		}
		if bytes.EqualFold(text[i:i+len(lower)], lower) {
			return true
		}
		text = text[i+1:]
	}
	return false
}

// split cuts a statement into words, numbers, $n, names without their quotes (so that one may be
// empty) and single bytes of punctuation; a string is a pair of quotes. It also returns the
// position of each.
func split(text []byte) (words []string, spans []span) {
	for _, t := range sqltext.All(string(text)) {
		word := t.Text
		switch t.Kind {
		case sqltext.String:
			word = "''"
		case sqltext.Param:
			word = "$" + t.Text
		}
		words = append(words, word)
		spans = append(spans, span{t.Start, t.End})
	}
	return words, spans
}

func wordByte(b byte) bool {
	return b == '_' || b == '$' || b >= 0x80 || b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'z'
}

// notAlias are words that may follow a table without being a name for it.
var notAlias = map[string]bool{
	"on": true, "where": true, "join": true, "left": true, "right": true, "inner": true, "outer": true, "full": true, "cross": true,
	"natural": true, "group": true, "order": true, "limit": true, "union": true, "using": true, "for": true, "having": true, "offset": true,
}

// others returns the names of catalogs in a query whose column oid is no number of a type, and
// whether a column without a table may be one.
func others(words []string) (names map[string]bool, bare bool) {
	names = map[string]bool{}
	bare = true
	for i, w := range words {
		if len(w) < 4 || w[:3] != "pg_" || w == "pg_catalog" || w == "pg_type" || i+1 < len(words) && (words[i+1] == "." || words[i+1] == "(") {
			continue
		}
		names[w], bare = true, false
		next := i + 1
		if next < len(words) && words[next] == "as" {
			next++
		}
		if next < len(words) && words[next] != "" && wordByte(words[next][0]) && !notAlias[words[next]] {
			names[words[next]] = true
		}
	}
	return names, bare
}

// compared reads a comparison of a number of a type that begins at word i: col = x,
// col = ANY(x), col IN (x, …), and returns where the operands are.
func compared(words []string, i int, not map[string]bool, bare bool) (operands []int) {
	column := words[i]
	if !columnsOfTypes[column] {
		if column != "oid" {
			return nil
		}
		if i >= 2 && words[i-1] == "." {
			if not[words[i-2]] {
				return nil
			}
		} else if !bare {
			return nil
		}
	}
	at := func(j int) string {
		if j < len(words) {
			return words[j]
		}
		return ""
	}
	switch j := i + 1; {
	case at(j) == "=":
		j++
		if at(j) == "any" && at(j+1) == "(" {
			j++
		}
		for at(j) == "(" { // JDBC puts a value of the simple protocol in brackets
			j++
		}
		if j < len(words) {
			operands = append(operands, j)
		}
	case at(j) == "in" && at(j+1) == "(":
		for j += 2; j < len(words); j += 2 {
			operands = append(operands, j)
			if at(j+1) != "," {
				break
			}
		}
	}
	return operands
}

// parameter reads $n and returns its number from 0.
func parameter(w string) (int, bool) {
	if len(w) < 2 || w[0] != '$' {
		return 0, false
	}
	n, err := strconv.ParseUint(w[1:], 10, 16)
	return int(n) - 1, err == nil && n > 0
}
