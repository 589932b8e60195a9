package catalog

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// OfNoExtension is a condition on pg_class c: no extension owns it.
const OfNoExtension = `NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
		WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid
		AND e.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.deptype = 'e')`

// FromTables reads, as pg_class c with its schema n, the tables that have rows of their
// own and belong to the application: those of Database.Relations that are no partitioned
// tables, whatever is written to them. A condition may follow.
const FromTables = ` FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND ` + UserSchema + ` AND ` + OfNoExtension

const relationsQuery = `
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, coalesce(a.amname::text, ''),
	coalesce(pg_catalog.pg_relation_filenode(c.oid), 0), c.relispartition, c.relhassubclass, c.relreplident::text,
	CASE c.relkind WHEN 'r' THEN coalesce(pg_catalog.pg_relation_size(c.oid), 0) ELSE 0 END,
	pg_catalog.current_setting('block_size')::pg_catalog.int8, c.reltuples::pg_catalog.float8, c.relrowsecurity, c.relforcerowsecurity,
	coalesce(x.extname::text, ''), coalesce(x.condition, ''), coalesce(s.spcname::text, '')
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam
LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace
LEFT JOIN (
	SELECT e.extname, k.oid, e.extcondition[k.i] AS condition
	FROM pg_catalog.pg_extension e, LATERAL pg_catalog.unnest(e.extconfig) WITH ORDINALITY AS k (oid, i)
) x ON x.oid = c.oid
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
	AND (x.oid IS NOT NULL OR ` + UserSchema + `)
	AND (x.oid IS NOT NULL OR ` + OfNoExtension + `)
ORDER BY 2, 3`

func (r *reader) relations(ctx context.Context) error {
	err := each(ctx, r.conn, relationsQuery, nil, func(row pgx.CollectableRow) error {
		var rel Relation
		var block int64
		err := row.Scan(&rel.OID, &rel.Schema, &rel.Rel, (*letter)(&rel.Kind), (*letter)(&rel.Persistence), &rel.Storage.AccessMethod, &rel.Storage.FileNode, &rel.Partition,
			&rel.Children, (*letter)(&rel.ReplicaIdentity), &rel.Bytes, &block, &rel.Rows, &rel.RowSecurity.Enabled, &rel.RowSecurity.Forced,
			&rel.Configuration.Extension, &rel.Configuration.Condition, &rel.Storage.Tablespace)
		if err != nil {
			return err
		}
		rel.Pages = rel.Bytes / max(1, block)
		if rel.Configuration.Extension != "" {
			r.db.Config = append(r.db.Config, &rel)
		} else {
			r.db.Relations = append(r.db.Relations, &rel)
		}
		return nil
	})
	r.db.Index()
	return err
}

// oids lists the tables that were read, for the queries that follow.
func (r *reader) oids() []uint32 {
	return slices.AppendSeq(make([]uint32, 0, len(r.db.byOID)), maps.Keys(r.db.byOID))
}

const columnsQuery = `
SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, tn.nspname::text, t.typname::text,
	pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypmod, a.attnotnull, a.attidentity::text, a.attgenerated::text, a.atthasdef
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
WHERE a.attrelid = ANY ($1::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`

func (r *reader) columns(ctx context.Context) error {
	return each(ctx, r.conn, columnsQuery, []any{r.oids()}, func(row pgx.CollectableRow) error {
		var relid uint32
		var c Column
		err := row.Scan(&relid, &c.Number, &c.Name, &c.TypeOID, &c.TypeName.Schema, &c.TypeName.Name, &c.Type, &c.TypeMod,
			&c.NotNull, (*letter)(&c.Identity), (*letter)(&c.Generated), &c.Default)
		if err != nil {
			return err
		}
		if rel := r.db.byOID[relid]; rel != nil {
			rel.Columns = append(rel.Columns, c)
		}
		return nil
	})
}

const inheritanceQuery = `
SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i
WHERE i.inhrelid = ANY ($1::pg_catalog.oid[]) ORDER BY i.inhrelid, i.inhseqno`

func (r *reader) inheritance(ctx context.Context) error {
	return each(ctx, r.conn, inheritanceQuery, []any{r.oids()}, func(row pgx.CollectableRow) error {
		var child, parent uint32
		if err := row.Scan(&child, &parent); err != nil {
			return err
		}
		rel := r.db.byOID[child]
		switch {
		case rel == nil:
		case rel.Partition:
			rel.Parent = parent
		default:
			rel.Inherits = append(rel.Inherits, parent)
		}
		return nil
	})
}

const uniqueQuery = `
SELECT i.indrelid, i.indexrelid, c.relname::text, i.indisprimary, i.indpred IS NOT NULL, i.indimmediate, i.indisreplident,
	coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::pg_catalog.bool, false), i.indexprs IS NOT NULL,
	ARRAY(SELECT a.attname::text FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) k
		JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] ORDER BY k)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = ANY ($1::pg_catalog.oid[]) AND i.indisunique AND i.indisvalid
ORDER BY i.indrelid, i.indisprimary DESC, c.relname`

func (r *reader) uniqueIndexes(ctx context.Context) error {
	err := each(ctx, r.conn, uniqueQuery, []any{r.oids()}, func(row pgx.CollectableRow) error {
		var relid uint32
		var u UniqueIndex
		var expressions bool
		err := row.Scan(&relid, &u.OID, &u.Name, &u.Primary, &u.Partial, &u.Immediate, &u.ReplicaIdentity, &u.NullsNotDistinct,
			&expressions, &u.Columns)
		if err != nil {
			return err
		}
		if expressions {
			u.Columns = nil
		}
		if rel := r.db.byOID[relid]; rel != nil {
			rel.Unique = append(rel.Unique, u)
		}
		return nil
	})
	for _, rel := range r.db.byOID {
		rel.identify()
	}
	return err
}

// identify fills in the keys that follow from the unique indexes.
func (r *Relation) identify() {
	for _, u := range r.Unique {
		if u.Primary {
			r.PrimaryKey = u.Columns
		}
		if r.ReplicaIdentity == IdentityIndex && u.ReplicaIdentity ||
			r.ReplicaIdentity == IdentityDefault && u.Primary && u.Immediate {
			r.Identity = u.Columns
		}
	}
	if r.ReplicaIdentity == IdentityFull {
		r.Identity = r.CopyColumns()
	}
}

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
WHERE c.relkind IN ('r', 'f') AND NOT c.relispartition AND c.relpersistence <> 't' AND ` + UserSchema + ` AND ` + OfNoExtension + `
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
		err := row.Scan(&relid, &c.Name, &c.Type, &c.Collation, (*letter)(&c.Generated), &c.Expression, &c.Storage)
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
	expected := lists.AddNew(nil, lists.Map(above, func(c OrderedColumn) string { return c.Name })...)
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
