package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/replicate/stream"
)

// firstUnpinnedOID is PostgreSQL's FirstGenbkiObjectId: types below it have the
// same oid on every server, and the stream does not name them.
const firstUnpinnedOID = 10000

// targetColumn is a column as the target's catalog has it.
type targetColumn struct {
	name          string
	num           int16
	typmod        int32
	notNull       bool
	generated     bool
	identity      string // "", "a" or "d"
	baseOID       uint32
	base          pg.Name
	baseKind      string // pg_type.typtype
	domain        bool   // the column's own type is a domain over base
	deterministic bool
	input         pg.Name // function of base that makes a value of text, if it can be called; zero if not
	inputArgs     int     // 1: the text; 3: the text, a type and a modifier
	inputType     uint32  // which the function is to be given as the type
}

const columnsSQL = `
WITH RECURSIVE base AS (
	SELECT a.attnum, t.oid, t.typtype, t.typbasetype
	FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
	WHERE a.attrelid = $1::pg_catalog.oid AND a.attnum > 0 AND NOT a.attisdropped
	UNION ALL
	SELECT b.attnum, t.oid, t.typtype, t.typbasetype
	FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
)
SELECT a.attname::text, a.attnum, a.atttypmod, a.attnotnull, a.attgenerated <> '', a.attidentity::text,
	t.oid::int8, n.nspname::text, t.typname::text, t.typtype::text, t.oid <> a.atttypid, coalesce(c.collisdeterministic, true),
	coalesce(fn.nspname::text, ''), coalesce(f.proname::text, ''), coalesce(f.pronargs, 0), CASE t.typelem WHEN 0 THEN t.oid ELSE t.typelem END::int8
FROM base b
JOIN pg_catalog.pg_attribute a ON a.attrelid = $1::pg_catalog.oid AND a.attnum = b.attnum
JOIN pg_catalog.pg_type t ON t.oid = b.oid
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
LEFT JOIN pg_catalog.pg_proc f ON f.oid = t.typinput AND f.prorettype = t.oid AND f.pronargs IN (1, 3)
	AND pg_catalog.has_function_privilege(f.oid, 'EXECUTE')
LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
WHERE b.typtype <> 'd' ORDER BY a.attnum`

// uniqueIndex is an index that can name a row.
type uniqueIndex struct {
	columns   []int16
	operators []string  // for equality, one for each column
	types     []pg.Name // that the operators take; zero for any
}

const indexesSQL = `
SELECT i.indexrelid::int8, k.attnum, pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname),
	CASE t.typtype WHEN 'p' THEN '' ELSE tn.nspname::text END, CASE t.typtype WHEN 'p' THEN '' ELSE t.typname::text END
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey::int2[]), pg_catalog.unnest(i.indclass::oid[])) WITH ORDINALITY AS k(attnum, opclass, ord)
JOIN pg_catalog.pg_opclass c ON c.oid = k.opclass
JOIN pg_catalog.pg_amop p ON p.amopfamily = c.opcfamily AND p.amoplefttype = c.opcintype
	AND p.amoprighttype = c.opcintype AND p.amopstrategy = 3
JOIN pg_catalog.pg_operator o ON o.oid = p.amopopr
JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
JOIN pg_catalog.pg_type t ON t.oid = c.opcintype
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
WHERE i.indrelid = $1::pg_catalog.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
	AND i.indpred IS NULL AND i.indexprs IS NULL AND k.ord <= i.indnkeyatts
ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid, k.ord`

// lookUp maps a relation of the source to the target's table that takes its changes.
func lookUp(ctx context.Context, conn *pgx.Conn, rel *stream.Relation, into pg.Name) (*table, error) {
	var oid, kind string
	err := conn.QueryRow(ctx, `SELECT c.oid::text, c.relkind::text FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p')`, into.Schema, into.Name).Scan(&oid, &kind)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, &DriftError{Relation: rel.Name.Display(), Problems: []string{"it does not exist on the target"}}
	}
	if err != nil {
		return nil, fmt.Errorf("look up table %s: %w", rel.Name.Display(), err)
	}
	columns, err := pg.Select(ctx, conn, func(c *targetColumn) []any {
		return []any{&c.name, &c.num, &c.typmod, &c.notNull, &c.generated, &c.identity,
			&c.baseOID, &c.base.Schema, &c.base.Name, &c.baseKind, &c.domain, &c.deterministic,
			&c.input.Schema, &c.input.Name, &c.inputArgs, &c.inputType}
	}, columnsSQL, oid)
	if err != nil {
		return nil, fmt.Errorf("look up columns of %s: %w", rel.Name.Display(), err)
	}
	indexes, err := readIndexes(ctx, conn, oid)
	if err != nil {
		return nil, fmt.Errorf("look up indexes of %s: %w", rel.Name.Display(), err)
	}
	return fit(rel, into, kind == "p", columns, indexes)
}

func readIndexes(ctx context.Context, conn *pgx.Conn, oid string) ([]uniqueIndex, error) {
	rows, _ := conn.Query(ctx, indexesSQL, oid)
	var indexes []uniqueIndex
	var last, id int64
	var num int16
	var op string
	var typ pg.Name
	_, err := pgx.ForEachRow(rows, []any{&id, &num, &op, &typ.Schema, &typ.Name}, func() error {
		if id != last || len(indexes) == 0 {
			indexes, last = append(indexes, uniqueIndex{}), id
		}
		x := &indexes[len(indexes)-1]
		x.columns, x.operators, x.types = append(x.columns, num), append(x.operators, op), append(x.types, typ)
		return nil
	})
	return indexes, err
}

// canonOf says how key values of a type are compared as text.
func canonOf(c targetColumn) canon {
	if c.baseKind == "e" {
		return canonExact
	}
	if c.base.Schema != "pg_catalog" || !c.deterministic {
		return canonNone
	}
	switch {
	case slices.Contains(exactTypes, c.base.Name):
		return canonExact
	case c.base.Name == "numeric":
		return canonNumeric
	case c.base.Name == "bpchar":
		return canonBlank
	}
	return canonNone
}

// exactTypes have one text for each value, given our session settings.
var exactTypes = []string{
	"bool", "int2", "int4", "int8", "oid", "text", "varchar", "char", "name", "uuid", "bytea",
	"date", "time", "timestamp", "timestamptz", "macaddr", "macaddr8", "pg_lsn", "xid8",
}
