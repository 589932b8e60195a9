package plan

import (
	"strconv"
	"strings"

	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
)

// itemSQL records an entry as restored.
func itemSQL(e *archive.Entry, part Part) string { return RecordItems(ItemRow(e.ID, e, part)) }

// RecordItems writes rows of crossfade.item.
func RecordItems(rows ...string) string {
	return "INSERT INTO crossfade.item (id, section, kind, nsp, name, done) VALUES " + strings.Join(rows, ", ") + " ON CONFLICT (id) DO UPDATE SET done = true"
}

func ItemRow(id int, e *archive.Entry, part Part) string {
	return "(" + strconv.Itoa(id) + ", " + pg.QuoteLiteral(string(part)) + ", " + pg.QuoteLiteral(e.Kind) + ", " + pg.QuoteLiteral(e.Schema) + ", " +
		pg.QuoteLiteral(e.Tag) + ", true)"
}
