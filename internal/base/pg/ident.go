package pg

import (
	"strings"
	"unicode/utf8"

	"crossfade/internal/base/lists"
)

// QuoteIdent quotes a name so that the server takes it literally, whatever is
// in it (PostgreSQL documentation 4.1.1). It always quotes.
func QuoteIdent(s string) string {
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// QuoteLiteral quotes a string constant. A backslash makes it an escape string,
// so that the result is right whatever standard_conforming_strings says.
func QuoteLiteral(s string) string {
	q := strings.ReplaceAll(s, `'`, `''`)
	if strings.Contains(q, `\`) {
		return ` E'` + strings.ReplaceAll(q, `\`, `\\`) + `'`
	}
	return `'` + q + `'`
}

// QuoteIdents writes names as a list that a statement takes.
func QuoteIdents(names []string) string { return strings.Join(lists.Map(names, QuoteIdent), ", ") }

// Name is the name of an object within a schema.
type Name struct {
	Schema, Name string
}

// String returns the quoted, qualified name, ready to be put into a statement.
func (n Name) String() string {
	if n.Schema == "" {
		return QuoteIdent(n.Name)
	}
	return QuoteIdent(n.Schema) + "." + QuoteIdent(n.Name)
}

// Display returns the name as a person writes it, for messages only.
func (n Name) Display() string {
	if n.Schema == "" {
		return n.Name
	}
	return n.Schema + "." + n.Name
}

// maxName is how many bytes a name may have: the server cuts the rest off (NAMEDATALEN, less the
// end of the string).
const maxName = 63

// ExtendName adds an ending to a name, and shortens the name if the whole would be too long.
func ExtendName(name, ending string) string {
	for len(name)+len(ending) > maxName && name != "" {
		_, last := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-last]
	}
	return name + ending
}
