package plan

import (
	"strconv"
	"strings"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
	"crossfade/schema/catalog"
)

// generatedParents is the first major version that wants a generated column's parent
// to be generated too, and lets the child say how; before it, the child may say so
// only where the parent is not.
const generatedParents = 16

// ordered makes the definition of a child of table inheritance one that puts its
// columns where the source has them. Crossfade's own schema lends it a first parent,
// with nothing but the columns in that order, for as long as it takes to create
// it: what the definition says of the columns, and which of them are the parents' own,
// stays pg_dump's word. A definition without parents is left as it is.
func ordered(sql string, d catalog.Disordered, major int) string {
	statements := sqltext.Split(sql)
	if len(statements) == 0 || !statements[0].Word(0, "create") {
		return sql
	}
	at := statements[0].Find(1, "inherits")
	if at < 0 || !statements[0].Punct(at+1, '(') {
		return sql
	}
	first := statements[0].Tokens[at+1].End
	lent := pg.Name{Schema: catalog.OwnSchema, Name: "order_" + strconv.FormatUint(uint64(d.OID), 10)}.String()
	columns := make([]string, len(d.Columns))
	var storage strings.Builder
	for i, c := range d.Columns {
		name := pg.QuoteIdent(c.Name)
		columns[i] = name + " " + c.Type
		if c.Collation != "" {
			columns[i] += " COLLATE " + c.Collation
		}
		if c.Generated != 0 && (c.Inherited || major >= generatedParents) {
			columns[i] += " GENERATED ALWAYS AS (" + c.Expression + ")"
			if c.Generated == catalog.GeneratedStored {
				columns[i] += " STORED"
			}
		}
		if c.Storage != "" {
			storage.WriteString("ALTER TABLE " + lent + " ALTER COLUMN " + name + " SET STORAGE " + c.Storage + ";\n")
		}
	}
	return "CREATE TABLE " + lent + " (" + strings.Join(columns, ", ") + ");\n" + storage.String() +
		sql[:first] + lent + ", " + sql[first:] +
		"\n;ALTER TABLE " + d.Name.String() + " NO INHERIT " + lent + ";\nDROP TABLE " + lent
}
