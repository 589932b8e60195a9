package catalog

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// Strategies of partitioned tables (pg_partitioned_table.partstrat).
const (
	ByHash  = 'h'
	ByRange = 'r'
)

// PartitionKey is one column or expression of a partitioned table's key.
type PartitionKey struct {
	Column     string  // "" for an expression
	Type       pg.Name // that its operator class takes, such as pg_catalog.text or pg_catalog.anyenum
	Collation  pg.Name // zero where it has none
	Equal      bool    // values that are equal on one server are equal on every other
	Hashed     bool    // and have the same hash on every server whose hash functions agree
	Ordered    bool    // and are in the same order on every server, as far as Order is the same
	Order      string  // what the order of its texts follows; "" for an order that is nobody's, UnknownOrder where it cannot be told
	Expression bool
}

// Orders of texts that are no name of a provider's.
const (
	BytesOrder   = "bytes"   // the same everywhere
	UnknownOrder = "unknown" // the same nowhere else
)

// builtInKeys are types of pg_catalog, as operator classes take them, whose values
// hash and compare by themselves alone: no catalog and no locale has a say.
var builtInKeys = []string{
	"bool", "char", "int2", "int4", "int8", "oid", "float4", "float8", "numeric", "money", "date", "time", "timetz", "timestamp", "timestamptz",
	"interval", "uuid", "bytea", "inet", "macaddr", "macaddr8", "bit", "varbit", "pg_lsn", "xid8", "text", "bpchar", "name",
}

// orderOf is an expression that names what the order of a collation's texts follows;
// c is the row of pg_collation, d the one of pg_database. The functions that give
// a version came with later servers; a provider that gives none may mean anything.
func orderOf(version int) string {
	actual, ofDatabase := "pg_catalog.pg_collation_actual_version(c.oid)", "NULL"
	if version >= 150000 {
		ofDatabase = "pg_catalog.pg_database_collation_actual_version(d.oid)"
	}
	return `CASE
		WHEN c.oid IS NULL THEN ''
		WHEN v.provider = 'b' OR v.provider = 'c' AND pg_catalog.lower(v.locale) IN ('c', 'posix', 'c.utf8', 'c.utf-8') THEN '` + BytesOrder + `'
		WHEN v.version IS NULL THEN '` + UnknownOrder + `'
		ELSE pg_catalog.format('%s:%s@%s', v.provider, v.locale, v.version) END
	FROM pg_catalog.pg_database d, LATERAL (SELECT pg_catalog.to_jsonb(d) AS db, pg_catalog.to_jsonb(c) AS co) j, LATERAL (
		SELECT CASE c.collprovider WHEN 'd' THEN coalesce(j.db ->> 'datlocprovider', 'c') ELSE c.collprovider::pg_catalog.text END AS provider,
			CASE c.collprovider WHEN 'd' THEN coalesce(j.db ->> 'datlocale', j.db ->> 'daticulocale', d.datcollate::pg_catalog.text)
				ELSE coalesce(j.co ->> 'colllocale', j.co ->> 'colliculocale', c.collcollate::pg_catalog.text) END AS locale,
			CASE c.collprovider WHEN 'd' THEN ` + ofDatabase + ` ELSE ` + actual + ` END AS version
	) v WHERE d.datname = pg_catalog.current_database()`
}

// partitionsQuery reads the keys of partitioned tables. An expression counts as depending on the
// place unless it reads columns without a collation by built-in functions only; what it reads and
// calls is in pg_depend, built-in things are not. The numbers that regclass and the like represent
// are each server's own.
func partitionsQuery(version int) string {
	return `
SELECT p.partrelid, p.partstrat::text, coalesce(a.attname::text, ''), tn.nspname::text, t.typname::text,
	coalesce(cn.nspname::text, ''), coalesce(c.collname::text, ''), o.oid < 16384, coalesce((pg_catalog.to_jsonb(c) ->> 'collisdeterministic')::pg_catalog.bool, true),
	k.attnum = 0, EXISTS (WITH RECURSIVE b AS (SELECT x.typname, x.typbasetype FROM pg_catalog.pg_type x WHERE x.oid = a.atttypid
			UNION ALL SELECT x.typname, x.typbasetype FROM b JOIN pg_catalog.pg_type x ON x.oid = b.typbasetype) SELECT FROM b WHERE b.typname ~ '^reg')
	OR k.attnum = 0 AND (
		EXISTS (SELECT FROM pg_catalog.pg_depend x WHERE x.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND x.objid = p.partrelid AND x.objsubid = 0
			AND x.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass,
				'pg_catalog.pg_collation'::pg_catalog.regclass) AND x.refobjid >= 16384)
		OR NOT coalesce((SELECT pg_catalog.bool_and(ra.attcollation = 0 AND ra.atttypid < 16384 AND ra.atttypid::pg_catalog.regtype::text !~ '^reg') FROM pg_catalog.pg_depend x JOIN pg_catalog.pg_attribute ra
			ON ra.attrelid = p.partrelid AND ra.attnum = CASE x.objsubid WHEN 0 THEN x.refobjsubid ELSE x.objsubid END
			WHERE x.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND x.refclassid = x.classid AND x.objid = p.partrelid AND x.refobjid = p.partrelid), false)),
	(SELECT ` + orderOf(version) + `)
FROM pg_catalog.pg_partitioned_table p
CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(p.partattrs::pg_catalog.int2[]), pg_catalog.unnest(p.partclass::pg_catalog.oid[]),
	pg_catalog.unnest(p.partcollation::pg_catalog.oid[])) WITH ORDINALITY AS k (attnum, opclass, coll, ord)
JOIN pg_catalog.pg_opclass o ON o.oid = k.opclass
JOIN pg_catalog.pg_type t ON t.oid = o.opcintype
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = k.attnum AND k.attnum > 0
LEFT JOIN pg_catalog.pg_collation c ON c.oid = k.coll
LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = c.collnamespace
WHERE p.partrelid = ANY ($1::pg_catalog.oid[]) ORDER BY p.partrelid, k.ord`
}

// probeQuery gives a value that servers whose hash functions agree have in common, and
// databases whose texts have the same bytes: those of SQL_ASCII are the ones of UTF8 once
// they can be converted.
const probeQuery = `SELECT pg_catalog.format('%s %s %s %s %s', pg_catalog.replace(pg_catalog.getdatabaseencoding()::pg_catalog.text, 'SQL_ASCII', 'UTF8'), pg_catalog.hashtextextended('Crossfade', 1), pg_catalog.hashint8extended(4886718345, 1),
	pg_catalog.hashfloat8extended(0.1, 1), pg_catalog.hash_numeric_extended(12.340, 1))`

func (r *reader) partitions(ctx context.Context) error {
	if err := r.conn.QueryRow(ctx, probeQuery).Scan(&r.db.HashProbe); err != nil {
		return err
	}
	return each(ctx, r.conn, partitionsQuery(r.db.Version), []any{r.oids()}, func(row pgx.CollectableRow) error {
		var relid uint32
		var strategy byte
		var k PartitionKey
		var builtIn, deterministic, place bool
		if err := row.Scan(&relid, (*letter)(&strategy), &k.Column, &k.Type.Schema, &k.Type.Name, &k.Collation.Schema, &k.Collation.Name,
			&builtIn, &deterministic, &k.Expression, &place, &k.Order); err != nil {
			return err
		}
		known := builtIn && k.Type.Schema == "pg_catalog" && slices.Contains(builtInKeys, k.Type.Name) && deterministic && !place
		enum := builtIn && k.Type == pg.Name{Schema: "pg_catalog", Name: "anyenum"} && !k.Expression
		k.Equal, k.Hashed, k.Ordered = known || enum, known, known
		if rel := r.db.byOID[relid]; rel != nil {
			rel.Strategy = strategy
			rel.PartitionKeys = append(rel.PartitionKeys, k)
		}
		return nil
	})
}

// Route says where the rows of a leaf partition must be put, since its own bounds
// may leave them to another leaf on the target.
type Route struct {
	Via *Relation // of the source: the partitioned table that is written to
	Why string    // in half a sentence
}

// Routes returns, by oid, the leaves of the source whose rows the target may route
// otherwise: those below a partitioned table whose key hashes or compares by what is
// the server's own, such as the numbers of an enum's values or a locale. The route
// leads through the uppermost such table. order tells what the order of texts follows
// on the target for a partitioned table's key, by its place in it.
func (d *Database) Routes(hashProbe string, order func(r *Relation, key int) string) map[uint32]Route {
	routes := map[uint32]Route{}
	whys := map[uint32]string{}
	for _, leaf := range d.Relations {
		if leaf.Kind != KindTable || leaf.Parent == 0 {
			continue
		}
		for r := d.byOID[leaf.Parent]; r != nil; r = d.byOID[r.Parent] {
			why, ok := whys[r.OID]
			if !ok {
				why = r.routesOtherwise(d.HashProbe == hashProbe, order)
				whys[r.OID] = why
			}
			if why != "" {
				routes[leaf.OID] = Route{Via: r, Why: why}
			}
		}
	}
	return routes
}

// RoutesTo is Routes for a target whose tables are there.
func (d *Database) RoutesTo(target *Database) map[uint32]Route {
	return d.Routes(target.HashProbe, func(r *Relation, key int) string {
		there := target.Lookup(r.Name())
		if there == nil || key >= len(there.PartitionKeys) {
			return UnknownOrder
		}
		return there.PartitionKeys[key].Order
	})
}

// routesOtherwise says why rows of a partitioned table may belong to another partition
// on a target; "" where they do not.
func (r *Relation) routesOtherwise(sameHashes bool, order func(*Relation, int) string) string {
	for i, k := range r.PartitionKeys {
		name := k.Column
		if k.Expression {
			name = "an expression"
		}
		switch {
		case !k.Equal:
			return fmt.Sprintf("how values of %s compare is not the same on every server", name)
		case r.Strategy == ByHash && !k.Hashed:
			return fmt.Sprintf("values of %s have other hashes on another server", name)
		case r.Strategy == ByHash && !sameHashes:
			return "the two servers have other hash functions"
		case r.Strategy == ByRange && !k.Ordered:
			return fmt.Sprintf("values of %s may have another order on another server", name)
		case r.Strategy == ByRange && k.Order != "":
			if there := order(r, i); there != k.Order || there == UnknownOrder {
				return fmt.Sprintf("%s sorts by %s on the source and by %s on the target", name, k.Order, there)
			}
		}
	}
	return ""
}

const treesQuery = `
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relispartition, coalesce(i.inhparent, 0)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
WHERE (c.relkind = 'p' OR c.relkind IN ('r', 'f') AND c.relispartition) AND c.relpersistence <> 't' AND ` + UserSchema + `
ORDER BY 2, 3`

// ReadTrees reads the partitioned tables and their partitions, foreign ones (kind 'f')
// too, as far as Routes needs them. It takes no lock on them.
func ReadTrees(ctx context.Context, conn *pgx.Conn) (*Database, error) {
	r := reader{conn: conn, db: &Database{}}
	err := r.inTransaction(ctx, func(ctx context.Context) error {
		if err := r.database(ctx); err != nil {
			return err
		}
		err := each(ctx, conn, treesQuery, nil, func(row pgx.CollectableRow) error {
			var rel Relation
			if err := row.Scan(&rel.OID, &rel.Schema, &rel.Rel, (*letter)(&rel.Kind), &rel.Partition, &rel.Parent); err != nil {
				return err
			}
			r.db.Relations = append(r.db.Relations, &rel)
			return nil
		})
		r.db.Index()
		if err != nil || len(r.db.Relations) == 0 {
			return err
		}
		return r.partitions(ctx)
	})
	return r.db, pg.Wrap(err, "read partitioned tables")
}

// ReadOrders tells of a server, on which the source's tables need not be, what its
// hash functions give and what the order of texts follows for collations of these
// names; a collation that is not there is missing from the answer.
func ReadOrders(ctx context.Context, conn *pgx.Conn, collations []pg.Name) (hashProbe string, orders map[pg.Name]string, err error) {
	r := reader{conn: conn, db: &Database{}}
	orders = map[pg.Name]string{}
	nsps, names := make([]string, len(collations)), make([]string, len(collations))
	for i, c := range collations {
		nsps[i], names[i] = c.Schema, c.Name
	}
	err = r.inTransaction(ctx, func(ctx context.Context) error {
		if err := r.database(ctx); err != nil {
			return err
		}
		if err := conn.QueryRow(ctx, probeQuery).Scan(&hashProbe); err != nil {
			return err
		}
		sql := `SELECT n.nspname::text, c.collname::text, (SELECT ` + orderOf(r.db.Version) + `)
			FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
			JOIN ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS w (nsp, name)
				ON w.nsp = n.nspname AND w.name = c.collname
			WHERE c.collencoding IN (-1, (SELECT x.encoding FROM pg_catalog.pg_database x WHERE x.datname = pg_catalog.current_database()))`
		return each(ctx, conn, sql, []any{nsps, names}, func(row pgx.CollectableRow) error {
			var name pg.Name
			var order string
			err := row.Scan(&name.Schema, &name.Name, &order)
			orders[name] = order
			return err
		})
	})
	return hashProbe, orders, pg.Wrap(err, "read orders of text")
}
