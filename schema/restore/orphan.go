package restore

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
	"crossfade/schema/plan"
)

// mostOrphans bounds how many keys are given as examples.
const mostOrphans = 5

// Orphans are rows that violate a foreign key. They exist because the key was not checked: triggers
// were disabled, or session_replication_role was replica.
type Orphans struct {
	Key               string  // name of the constraint
	Table, Referenced pg.Name // the rows are of Table and have none in Referenced
	Columns           []string
	Examples          []string // values of the columns, a few
	// Remove deletes the rows. Accept has the key hold for new rows only; "" where that is not
	// possible.
	Remove, Accept string
}

func (o Orphans) String() string {
	return fmt.Sprintf("table %s has rows that foreign key %s forbids: %s has none with (%s) = (%s)", o.Table.Display(), o.Key, o.Referenced.Display(),
		strings.Join(o.Columns, ", "), strings.Join(o.Examples, "), ("))
}

// FindOrphans searches for rows that violate a key of the source, in the database of conn, whether
// or not that has the constraint. The result has no examples if there are none. It reads both
// tables, and holds ACCESS SHARE on them meanwhile; the caller bounds its time.
func FindOrphans(ctx context.Context, conn *pgx.Conn, db *catalog.Database, key *catalog.ForeignKey) (Orphans, error) {
	table, referenced := db.Relation(key.Table), db.Relation(key.Referenced)
	if table == nil || referenced == nil || len(key.Operators) != len(key.Columns) || len(key.RefColumns) != len(key.Columns) {
		return Orphans{}, nil // of an extension's table, which belongs to others
	}
	o := Orphans{Key: key.Name, Table: table.Name(), Referenced: referenced.Name(), Columns: key.Columns}
	var values, given, equal []string
	for i, c := range key.Columns {
		column := "f." + pg.QuoteIdent(c)
		values = append(values, column+"::pg_catalog.text")
		given = append(given, column+" IS NOT NULL")
		equal = append(equal, "p."+pg.QuoteIdent(key.RefColumns[i])+" "+key.Operators[i]+" "+column)
	}
	and := " AND "
	if key.Full {
		and = " OR "
	}
	where := " f WHERE (" + strings.Join(given, and) + ") AND NOT EXISTS (SELECT FROM " + rowsOf(referenced) + " p WHERE " + strings.Join(equal, " AND ") + ")"
	rows, _ := conn.Query(ctx, fmt.Sprintf("SELECT DISTINCT v FROM (SELECT pg_catalog.concat_ws(', ', %s) FROM %s%s LIMIT %d) x (v) ORDER BY v", strings.Join(values, ", "), rowsOf(table), where, mostOrphans))
	var err error
	if o.Examples, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return Orphans{}, fmt.Errorf("look for rows of %s that foreign key %s forbids: %w", o.Table.Display(), key.Name, err)
	}
	o.Remove = "DELETE FROM " + rowsOf(table) + strings.ReplaceAll(where, "OPERATOR(pg_catalog.=)", "=")
	if table.Kind != catalog.KindPartitioned || db.Version >= plan.PartitionedNotValid*10000 {
		o.Accept = "ALTER TABLE " + o.Table.String() + " DROP CONSTRAINT " + pg.QuoteIdent(key.Name) + ", ADD CONSTRAINT " + pg.QuoteIdent(key.Name) + " " + key.Definition + " NOT VALID"
	}
	return o, nil
}

// rowsOf names a table's own rows, or all of a partitioned one's.
func rowsOf(r *catalog.Relation) string {
	if r.Kind == catalog.KindPartitioned {
		return r.Name().String()
	}
	return "ONLY " + r.Name().String()
}
