package copy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// key is how rows of a table are found by values that came as text.
type key []keyColumn

type keyColumn struct {
	name   string // quoted
	typ    string // quoted name of the base type, without modifier
	domain bool   // the column's own type is a domain over it
	input  string // an expression that has the base type's input function make a value of %s, a text
	eq     string // operator for equality, of the unique index
	eqType string // quoted name of the type that it takes; "" for the base type
}

// How a value is made from a text. It is never a cast that has to be looked up, whose meaning the
// owner of a type may define: the casts from text to these three types are the server's own, the
// input functions of built-in types are called by their names, and the others are called for the
// field of a JSON record.
const (
	inputText     = "(%%s)::%s"
	inputFunction = "%s(pg_catalog.textout(%%s))"
	inputTyped    = "%s(pg_catalog.textout(%%s), %d::pg_catalog.oid, -1)"
	inputRecord   = "(SELECT r.v FROM pg_catalog.json_to_record(pg_catalog.json_build_object('v', %%s)) AS r(v %s))"
)

// inputOf chooses among them. The function is named only where it can be called by
// its name on both sides.
func inputOf(typ, function pg.Name, args int, element uint32) string {
	switch {
	case typ.Schema == "pg_catalog" && (typ.Name == "text" || typ.Name == "varchar" || typ.Name == "bpchar"):
		return fmt.Sprintf(inputText, typ)
	case typ.Schema == "pg_catalog" && args == 1:
		return fmt.Sprintf(inputFunction, function)
	case typ.Schema == "pg_catalog" && args == 3:
		return fmt.Sprintf(inputTyped, function, element)
	}
	return fmt.Sprintf(inputRecord, typ)
}

// value is an expression for the value that a text represents.
func (c *keyColumn) value(text string) string { return fmt.Sprintf(c.input, text) }

// of is the column of a table as the type that its operator takes, so that no other operator of
// that name fits as well, be it for a domain or for a type of the same sort.
func (c *keyColumn) of(alias string) string {
	expr := alias + "." + c.name
	if c.domain {
		expr = "(" + expr + ")::" + c.typ
	}
	return c.forOperator(expr)
}

func (c *keyColumn) forOperator(expr string) string {
	if c.eqType == "" {
		return expr
	}
	return "(" + expr + ")::" + c.eqType
}

// errNoKey says that a table has no key that a repair can rest on.
var errNoKey = errors.New("it has no key by which changed rows could be found")

// keyQuery reads the columns $2 of the table $1 with the unique index that they have. Types whose
// text means something else on another server (reg*, money) or whose equality is not that of bytes
// by their collation are left out, so that columns are missing from the answer.
const keyQuery = `
WITH RECURSIVE base AS (
	SELECT a.attnum, t.oid, t.typtype, t.typbasetype
	FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
	WHERE a.attrelid = $1 AND a.attname::text = ANY ($2) AND NOT a.attisdropped
	UNION ALL
	SELECT b.attnum, t.oid, t.typtype, t.typbasetype
	FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
), usable AS (
	SELECT i.indexrelid, i.indkey, i.indclass FROM pg_catalog.pg_index i
	WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
		AND pg_catalog.cardinality($2::pg_catalog.text[]) = i.indnkeyatts
		AND NOT EXISTS (SELECT FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) k
			JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] WHERE a.attname::text <> ALL (coalesce($2::pg_catalog.text[], '{}')))
	ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1
)
SELECT a.attname::text, n.nspname::text, t.typname::text, opn.nspname::text, o.oprname::text, t.oid <> a.atttypid,
	coalesce(fn.nspname::text, ''), coalesce(f.proname::text, ''), coalesce(f.pronargs, 0), CASE t.typelem WHEN 0 THEN t.oid ELSE t.typelem END,
	CASE q.typtype WHEN 'p' THEN '' ELSE qn.nspname::text END, CASE q.typtype WHEN 'p' THEN '' ELSE q.typname::text END
FROM usable i CROSS JOIN pg_catalog.generate_series(0, pg_catalog.cardinality($2::pg_catalog.text[]) - 1) k
JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = i.indkey[k]
JOIN base b ON b.attnum = a.attnum AND b.typtype <> 'd'
JOIN pg_catalog.pg_type t ON t.oid = b.oid
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
JOIN pg_catalog.pg_opclass c ON c.oid = i.indclass[k]
JOIN pg_catalog.pg_amop p ON p.amopfamily = c.opcfamily AND p.amoplefttype = c.opcintype AND p.amoprighttype = c.opcintype AND p.amopstrategy = 3
JOIN pg_catalog.pg_operator o ON o.oid = p.amopopr AND (o.oprcanhash OR o.oprcanmerge)
JOIN pg_catalog.pg_namespace opn ON opn.oid = o.oprnamespace
JOIN pg_catalog.pg_type q ON q.oid = c.opcintype
JOIN pg_catalog.pg_namespace qn ON qn.oid = q.typnamespace
LEFT JOIN pg_catalog.pg_proc f ON f.oid = t.typinput AND f.prorettype = t.oid AND f.pronargs IN (1, 3)
LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
WHERE a.attnotnull AND t.typname !~ '^reg' AND t.typname <> 'money'
	AND coalesce((pg_catalog.to_jsonb(l) ->> 'collisdeterministic')::pg_catalog.bool, true)
ORDER BY k`

// readKey looks up how the table's key compares; errNoKey says that it cannot be used.
func readKey(ctx context.Context, source *pgx.Conn, t Table) (key, error) {
	rows, _ := source.Query(ctx, keyQuery, t.OID, t.Key)
	var k key
	var column string
	var typ, op, function, takes pg.Name
	var domain bool
	var args int
	var element uint32
	_, err := pgx.ForEachRow(rows, []any{&column, &typ.Schema, &typ.Name, &op.Schema, &op.Name, &domain,
		&function.Schema, &function.Name, &args, &element, &takes.Schema, &takes.Name}, func() error {
		c := keyColumn{name: pg.QuoteIdent(column), typ: typ.String(), domain: domain, input: inputOf(typ, function, args, element),
			eq: "OPERATOR(" + pg.QuoteIdent(op.Schema) + "." + op.Name + ")"}
		if (takes != pg.Name{}) && takes != typ {
			c.eqType = takes.String()
		}
		k = append(k, c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if len(k) == 0 || len(k) != len(t.Key) {
		return nil, errNoKey
	}
	return k, nil
}

// inOrder returns for each column of the key its place in the table's Key, which
// is the order of the values in crossfade.delta.
func (k key) inOrder(t Table) []int {
	at := make([]int, len(k))
	for i, c := range k {
		for n, name := range t.Key {
			if pg.QuoteIdent(name) == c.name {
				at[i] = n
			}
		}
	}
	return at
}

// ofDelta is a subquery with the keys of a relation as typed columns k0, k1, …;
// $1 is the relation, $2 the attempt.
func (k key) ofDelta(t Table, more string) string {
	var list []string
	for i, n := range k.inOrder(t) {
		list = append(list, fmt.Sprintf("%s AS k%d", k[i].value(fmt.Sprintf("d.key[%d]", n+1)), i))
	}
	return "(SELECT " + strings.Join(list, ", ") + more + " FROM crossfade.delta d WHERE d.relid = $1 AND d.attempt = $2)"
}

// matches joins two rows with key columns, the left one by its columns' names if named is set.
func (k key) matches(left string, named bool, right string) string {
	var list []string
	for i, c := range k {
		l := c.forOperator(fmt.Sprintf("%s.k%d", left, i))
		if named {
			l = c.of(left)
		}
		list = append(list, fmt.Sprintf("%s %s %s", l, c.eq, c.forOperator(fmt.Sprintf("%s.k%d", right, i))))
	}
	return strings.Join(list, " AND ")
}

// distinctSQL leaves one of those keys that are equal, such as 1.0 and 1.00.
func (k key) distinctSQL(t Table) string {
	with := k.ofDelta(t, ", d.digest")
	return "DELETE FROM crossfade.delta x USING (SELECT b.digest FROM " + with + " a JOIN " + with + " b ON " + k.matches("a", false, "b") +
		" AND a.digest < b.digest) y WHERE x.relid = $1 AND x.attempt = $2 AND x.digest = y.digest"
}

// deleteSQL deletes the rows that the keys name on the target.
func (k key) deleteSQL(t Table) string {
	return "DELETE FROM ONLY " + t.Name.String() + " AS t USING " + k.ofDelta(t, "") + " AS d WHERE " + k.matches("t", true, "d")
}

// fetchPlan has the source look each key up by the index, in the transaction that it is sent with.
const fetchPlan = `SET LOCAL enable_indexscan = on; SET LOCAL enable_bitmapscan = on; SET LOCAL enable_nestloop = on;
	SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; `

// fetchSQL is the source's COPY of the rows that the keys name.
func (k key) fetchSQL(t Table, keys [][]string) string {
	var from, names, typed []string
	for i, n := range k.inOrder(t) {
		column := make([]string, len(keys))
		for r := range keys {
			column[r] = keys[r][n]
		}
		from = append(from, "pg_catalog.unnest("+pg.QuoteLiteral(arrayText(column))+"::pg_catalog.text[])")
		names = append(names, fmt.Sprintf("u%d", i))
		typed = append(typed, fmt.Sprintf("%s AS k%d", k[i].value(fmt.Sprintf("u.u%d", i)), i))
	}
	columns := lists.Map(t.Columns, func(c string) string { return "t." + pg.QuoteIdent(c) })
	return fetchPlan + "COPY (SELECT " + strings.Join(columns, ", ") + " FROM (SELECT " + strings.Join(typed, ", ") +
		" FROM ROWS FROM (" + strings.Join(from, ", ") + ") AS u(" + strings.Join(names, ", ") + ")) AS d" +
		" JOIN ONLY " + t.Name.String() + " AS t ON " + k.matches("t", true, "d") + ") TO STDOUT" + t.format(false)
}

// arrayText writes values as the text of a one-dimensional array.
func arrayText(values []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		for j := range len(v) {
			if v[j] == '"' || v[j] == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(v[j])
		}
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}
