package catalog

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// Disordered is a child of table inheritance whose columns are in another order than CREATE TABLE …
// INHERITS would give them: the parents' columns first, in the parents' order, then its own. It
// results from a parent that got a column later, from ALTER TABLE … INHERIT, or from two parents.
type Disordered struct {
	OID     uint32
	Name    pg.Name
	Columns []OrderedColumn // in attnum order, without dropped ones
}

// OrderedColumn is a column of a Disordered table, as far as a parent of it must be like it.
type OrderedColumn struct {
	Name       string
	Type       string // formatted, with modifier
	Collation  string // quoted; "" for the type's own
	Inherited  bool   // a parent has it
	Generated  byte   // 0, GeneratedStored or GeneratedVirtual
	Expression string // of a generated column
	Storage    string // PLAIN, EXTERNAL, EXTENDED or MAIN, where the parents' is not the type's own; else ""
}

const childrenQuery = `
SELECT i.inhrelid, n.nspname::text, c.relname::text, pg_catalog.array_agg(i.inhparent ORDER BY i.inhseqno)
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'f') AND NOT c.relispartition AND c.relpersistence <> 't' AND ` + UserSchema + `
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
		WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid
		AND e.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.deptype = 'e')
GROUP BY 1, 2, 3 ORDER BY 2, 3`

const orderQuery = `
SELECT a.attrelid, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod),
	CASE WHEN a.attcollation <> t.typcollation THEN (SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(l.collname)
		FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace WHERE l.oid = a.attcollation) ELSE '' END,
	a.attgenerated::text, CASE WHEN a.attgenerated <> '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) ELSE '' END,
	CASE WHEN a.attstorage = t.typstorage THEN '' ELSE CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'x' THEN 'EXTENDED' ELSE 'MAIN' END END
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY ($1::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`

func (r *reader) order(ctx context.Context) error {
	var children []Disordered
	parents := map[uint32][]uint32{}
	var oids []uint32
	err := each(ctx, r.conn, childrenQuery, nil, func(row pgx.CollectableRow) error {
		var d Disordered
		var of []uint32
		err := row.Scan(&d.OID, &d.Name.Schema, &d.Name.Name, &of)
		children, parents[d.OID] = append(children, d), of
		oids = append(append(oids, d.OID), of...)
		return err
	})
	if err != nil || len(children) == 0 {
		return err
	}
	columns := map[uint32][]OrderedColumn{}
	err = each(ctx, r.conn, orderQuery, []any{oids}, func(row pgx.CollectableRow) error {
		var relid uint32
		var c OrderedColumn
		var generated string
		err := row.Scan(&relid, &c.Name, &c.Type, &c.Collation, &generated, &c.Expression, &c.Storage)
		c.Generated = first(generated)
		columns[relid] = append(columns[relid], c)
		return err
	})
	for _, d := range children {
		var above []OrderedColumn
		for _, p := range parents[d.OID] {
			above = append(above, columns[p]...)
		}
		if d.Columns = columns[d.OID]; disordered(d.Columns, above) {
			r.db.Disordered = append(r.db.Disordered, d)
		}
	}
	return err
}

// disordered reports whether own are otherwise than INHERITS would put them, and takes
// from above, the parents' columns in their order, what own have of them.
func disordered(own, above []OrderedColumn) bool {
	var expected []string
	for _, c := range above {
		if !slices.Contains(expected, c.Name) {
			expected = append(expected, c.Name)
		}
	}
	for i := range own {
		c := &own[i]
		at := slices.IndexFunc(above, func(a OrderedColumn) bool { return a.Name == c.Name })
		if c.Inherited = at >= 0; c.Inherited {
			c.Storage, c.Generated, c.Expression = above[at].Storage, above[at].Generated, above[at].Expression
		} else {
			c.Storage = ""
			expected = append(expected, c.Name)
		}
	}
	return !slices.EqualFunc(own, expected, func(c OrderedColumn, name string) bool { return c.Name == name })
}
