package watch

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/journal"
	"crossfade/replicate/slot"
)

// PublicationOf reads the source's publication in the journal's terms.
func PublicationOf(ctx context.Context, source *pgx.Conn) (journal.Published, error) {
	inv, err := slot.TakeInventory(ctx, source, journal.Publication, true)
	if err != nil {
		return journal.Published{}, err
	}
	p := journal.Published{Row: inv.Row}
	for _, t := range inv.Tables {
		p.Tables = append(p.Tables, journal.PublishedTable{OID: t.OID, Table: t.Table, Columns: t.Columns, Row: t.Row})
	}
	return p, nil
}
