package slot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// Membership is how the publication has one table.
type Membership struct {
	OID     uint32 // of the table
	Table   pg.Name
	Columns []string // that are published, in the order of the table
	// Row is the catalog's row of it and that row's version: a table that was taken out
	// and put back has another one.
	Row string
}

// Inventory is a publication at one moment.
type Inventory struct {
	// Row is the catalog's row of the publication and that row's version, which every
	// ALTER of the publication itself changes; "" where there is no publication.
	Row    string
	Tables []Membership
}

// TakeInventory reads what the publication is, as conn's snapshot sees it. With
// columns it reads those of each table too.
func TakeInventory(ctx context.Context, conn *pgx.Conn, publication string, columns bool) (Inventory, error) {
	var inv Inventory
	// VACUUM keeps a row's xmin where it freezes the row.
	err := conn.QueryRow(ctx, `SELECT oid::text || '/' || xmin::text FROM pg_catalog.pg_publication WHERE pubname = $1`, publication).Scan(&inv.Row)
	if errors.Is(err, pgx.ErrNoRows) {
		return Inventory{}, nil
	}
	if err != nil {
		return Inventory{}, fmt.Errorf("read publication %s: %w", publication, err)
	}
	list := "NULL::text[]"
	if columns { // sources before 12 have no generated columns
		list = `ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
			AND coalesce(pg_catalog.to_jsonb(a) OPERATOR(pg_catalog.->>) 'attgenerated', '') = '' ORDER BY a.attnum)`
	}
	rows, _ := conn.Query(ctx, `SELECT c.oid, n.nspname::text, c.relname::text, `+list+`, r.oid::text || '/' || r.xmin::text
		FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
		JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE p.pubname = $1 ORDER BY 2, 3`, publication)
	inv.Tables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Membership, err error) {
		err = row.Scan(&m.OID, &m.Table.Schema, &m.Table.Name, &m.Columns, &m.Row)
		return m, err
	})
	if err != nil {
		return Inventory{}, fmt.Errorf("read publication %s: %w", publication, err)
	}
	return inv, nil
}

// Harm is a table whose UPDATEs and DELETEs fail on the source because a publication has it.
type Harm struct {
	OID    uint32
	Table  pg.Name
	Reason string // completes "table t …"
}

// HarmPartial is the reason of a table that has its replica identity, and would be followed if
// someone had not changed its entry in the publication.
const HarmPartial = "was given a row filter or a list of columns in the publication"

// Harmed lists the tables of the publication that applications cannot update any
// more: those without a replica identity, and those whose entry has a row filter or
// a list of columns, which ours never have.
func Harmed(ctx context.Context, conn *pgx.Conn, publication string) ([]Harm, error) {
	partial := "false"
	if version(conn) >= 150000 {
		partial = "r.prqual IS NOT NULL OR r.prattrs IS NOT NULL"
	}
	rows, _ := conn.Query(ctx, `SELECT oid, nspname, relname, reason FROM (
			SELECT c.oid, n.nspname::text, c.relname::text, CASE
				WHEN c.relreplident = 'n' THEN 'has REPLICA IDENTITY NOTHING'
				WHEN c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i
					WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate) THEN 'has no primary key any more, or a deferrable one'
				WHEN c.relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i
					WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid AND i.indisunique AND i.indimmediate) THEN 'has lost the index that was its replica identity'
				WHEN `+partial+` THEN '`+HarmPartial+`' END AS reason
			FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
			JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE p.pubname = $1) t
		WHERE reason IS NOT NULL ORDER BY 2, 3`, publication)
	harmed, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h Harm, err error) {
		err = row.Scan(&h.OID, &h.Table.Schema, &h.Table.Name, &h.Reason)
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for tables without replica identity: %w", err)
	}
	return harmed, nil
}

// TakeOut takes a table out of the publication. It waits for the table's lock no longer
// than lockTimeout; writers of the table hold no lock that it waits for.
func TakeOut(ctx context.Context, conn *pgx.Conn, publication string, table pg.Name, lockTimeout time.Duration) error {
	locked := map[pg.Name]error{}
	err := alterPublication(ctx, conn, PublicationConfig{Name: publication, LockTimeout: lockTimeout}, "DROP", []pg.Name{table}, locked)
	if err == nil {
		err = locked[table]
	}
	if err != nil && !pg.IsCode(err, pg.CodeUndefinedObject, pg.CodeUndefinedTable) { // someone else did
		return fmt.Errorf("take table %s out of publication %s: %w", table.Display(), publication, err)
	}
	return nil
}
