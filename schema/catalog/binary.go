package catalog

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// typeParts are the types that type t is made of.
const typeParts = `SELECT t.typbasetype WHERE t.typtype = 'd'
		UNION ALL SELECT t.typelem WHERE t.typelem <> 0
		UNION ALL SELECT c.atttypid FROM pg_catalog.pg_attribute c
			WHERE t.typtype = 'c' AND c.attrelid = t.typrelid AND c.attnum > 0 AND NOT c.attisdropped
		UNION ALL SELECT g.rngsubtype FROM pg_catalog.pg_range g WHERE t.typtype = 'r' AND g.rngtypid = t.oid
		UNION ALL SELECT g.rngtypid FROM pg_catalog.pg_range g
			WHERE t.typtype = 'm' AND (pg_catalog.to_jsonb(g) ->> 'rngmultitypid')::pg_catalog.oid = t.oid`

// typesQuery lists the types of the columns and all that these are made of:
// the base of a domain, the element of an array, the attributes of a composite
// type, the bounds of a range and the ranges of a multirange.
const typesQuery = `
WITH RECURSIVE part (oid) AS (
	SELECT a.atttypid FROM pg_catalog.pg_attribute a
	WHERE a.attrelid = ANY ($1::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped
	UNION
	SELECT inner_oid FROM part p
	JOIN pg_catalog.pg_type t ON t.oid = p.oid,
	LATERAL (
		` + typeParts + `
	) i (inner_oid)
)
SELECT t.oid, n.nspname::text, t.typname::text, t.typtype::text, t.typsend <> 0 AND t.typreceive <> 0,
	EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND e.objid = t.oid
		AND e.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.deptype = 'e'),
	EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid),
	ARRAY(` + typeParts + `)
FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.oid
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace`

// typeFacts is what decides whether a type may travel in binary.
type typeFacts struct {
	name       pg.Name
	kind       byte // pg_type.typtype
	functions  bool // it has send and receive functions
	extension  bool // it is of an extension
	array      bool
	parts      []uint32
	safe, seen bool
}

// Types of pg_catalog whose binary form means something else elsewhere (the
// reg types are bare oids), or that a receiver may refuse: tsvector (alignment
// on ARM), xml (encoding declaration), acl items.
var unsafeTypes = []string{"regproc", "regprocedure", "regoper", "regoperator", "regclass", "regtype", "regrole", "regnamespace",
	"regconfig", "regdictionary", "regcollation", "regdatabase", "aclitem", "tsvector", "tsquery", "gtsvector", "xml"}

// Types of extensions whose binary form has not changed between versions.
var safeExtensionTypes = []string{"citext", "hstore", "vector", "halfvec"}

func (r *reader) binary(ctx context.Context) error {
	types := map[uint32]*typeFacts{}
	err := each(ctx, r.conn, typesQuery, []any{r.oids()}, func(row pgx.CollectableRow) error {
		var oid uint32
		var t typeFacts
		if err := row.Scan(&oid, &t.name.Schema, &t.name.Name, (*letter)(&t.kind), &t.functions, &t.extension, &t.array, &t.parts); err != nil {
			return err
		}
		types[oid] = &t
		return nil
	})
	if err != nil {
		return err
	}
	for _, rel := range r.db.byOID {
		rel.BinarySafe = true
		for _, c := range rel.Columns {
			if c.Generated == 0 && !binarySafe(types, c.TypeOID) {
				rel.BinarySafe = false
				rel.BinaryUnsafe = append(rel.BinaryUnsafe, c.Name)
			}
		}
	}
	return nil
}

// binarySafe reports whether a type and all that it is made of may travel in
// binary. A type that contains itself is judged by the rest of it.
func binarySafe(types map[uint32]*typeFacts, oid uint32) bool {
	t := types[oid]
	if t == nil {
		return false
	}
	if t.seen {
		return t.safe
	}
	t.seen, t.safe = true, true
	t.safe = t.ownForm()
	for _, part := range t.parts {
		t.safe = binarySafe(types, part) && t.safe
	}
	return t.safe
}

// ownForm judges a type without its parts.
func (t *typeFacts) ownForm() bool {
	switch {
	case !t.functions:
		return false
	case t.name.Schema == "pg_catalog":
		return !slices.Contains(unsafeTypes, t.name.Name)
	case t.kind != 'b':
		return true // domains, enums, composites and ranges follow from their parts
	case t.array:
		return true // follows from its element
	}
	return t.extension && slices.Contains(safeExtensionTypes, t.name.Name)
}
