package journal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// PublishedTable is how the source's publication had one table when the slot was made.
type PublishedTable struct {
	OID      uint32
	Table    pg.Name
	Columns  []string // that are published, in the order of the table
	Row      string   // names the catalog's row of it and that row's version
	TakenOut string   // why we took it out of the publication since; "" where we did not
}

// Published is the publication as it was when the slot was made.
type Published struct {
	Row    string // names the catalog's row of the publication and that row's version
	Tables []PublishedTable
}

// SetPublished records the publication on the target, in place of what an earlier slot
// was made with.
func SetPublished(ctx context.Context, conn *pgx.Conn, p Published) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE crossfade.run SET publication = $1`, p.Row); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM crossfade.published`); err != nil {
			return err
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{Schema, "published"}, []string{"relid", "nsp", "rel", "columns", "entry"},
			pgx.CopyFromSlice(len(p.Tables), func(i int) ([]any, error) {
				t := p.Tables[i]
				return []any{t.OID, t.Table.Schema, t.Table.Name, append([]string{}, t.Columns...), t.Row}, nil
			}))
		return err
	})
	if err != nil {
		return fmt.Errorf("record the publication: %w", err)
	}
	return nil
}

// LoadPublished reads what SetPublished and SetTakenOut recorded, in the order of the
// tables' names.
func LoadPublished(ctx context.Context, conn *pgx.Conn) (Published, error) {
	var p Published
	if err := conn.QueryRow(ctx, `SELECT publication FROM crossfade.run`).Scan(&p.Row); err != nil {
		return Published{}, fmt.Errorf("read how the publication was: %w", err)
	}
	rows, _ := conn.Query(ctx, `SELECT relid, nsp, rel, columns, entry, taken_out FROM crossfade.published ORDER BY nsp, rel`)
	var err error
	p.Tables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t PublishedTable, err error) {
		err = row.Scan(&t.OID, &t.Table.Schema, &t.Table.Name, &t.Columns, &t.Row, &t.TakenOut)
		return t, err
	})
	if err != nil {
		return Published{}, fmt.Errorf("read how the publication was: %w", err)
	}
	return p, nil
}

// SetTakenOut records why a table was taken out of the publication.
func SetTakenOut(ctx context.Context, conn *pgx.Conn, oid uint32, why string) error {
	if _, err := conn.Exec(ctx, `UPDATE crossfade.published SET taken_out = $2 WHERE relid = $1`, oid, why); err != nil {
		return fmt.Errorf("record that a table was taken out of the publication: %w", err)
	}
	return nil
}
