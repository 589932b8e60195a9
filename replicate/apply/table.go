package apply

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"crossfade/internal/base/pg"
	"crossfade/replicate/stream"
)

// canon says how a key value's text is brought to a form in which equal values
// have equal bytes, so that changes of one row can be found by their key.
type canon byte

const (
	canonNone    canon = iota // equal values may differ in their text: no coalescing
	canonExact                // text is canonical
	canonNumeric              // trailing zeros of the fraction do not count
	canonBlank                // trailing blanks do not count
)

// column is a column of the source's relation as the target has it.
type column struct {
	name   string // quoted
	raw    string
	typ    string // quoted name of the base type, without a modifier
	domain bool   // the column's own type is a domain over it
	travel travel // how values reach the type's input function
	oid    uint32 // of the base type
	input  string // for byFunction: the call of it, with a gap for the text
	eq     string // operator for equality of key values; "" for that of their text
	eqType string // quoted name of the type that the operator takes; "" for the base type
	canon  canon
	skip   bool // generated on the target: computed there
	always bool // identity GENERATED ALWAYS: cannot be set by an UPDATE
}

// table is where changes of a relation go.
type table struct {
	rel  *stream.Relation
	into pg.Name  // rel's name, or that of the partitioned table that it is written through
	cols []column // aligned with rel.Columns
	only string   // "ONLY " where children must not be reached
	root bool     // partitioned: ctid alone names no row
	key  []int    // columns that name a row, ascending; nil if there are none
	// coalesce: changes of one row may be found by the canonical key and merged.
	coalesce bool
	stored   []int // columns that are not computed on the target
}

func (t *table) display() string { return t.into.Display() }

// keyOf appends the canonical key of a tuple to b.
func (t *table) keyOf(b []byte, tuple []stream.Value) []byte {
	for _, i := range t.key {
		v := tuple[i].Data
		switch t.cols[i].canon {
		case canonNumeric:
			if bytes.IndexByte(v, '.') >= 0 {
				v = bytes.TrimSuffix(bytes.TrimRight(v, "0"), []byte("."))
			}
		case canonBlank:
			v = bytes.TrimRight(v, " ")
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	return b
}

// sameKey reports whether two tuples name the same row by the text of their key.
func (t *table) sameKey(a, b []stream.Value) bool {
	for _, i := range t.key {
		if !bytes.Equal(a[i].Data, b[i].Data) {
			return false
		}
	}
	return true
}

// describe names a row for a message. The tuple's columns of the key are used,
// or all where there is no key.
func (t *table) describe(tuple []stream.Value) string {
	which := t.key
	if which == nil {
		which = t.stored
	}
	var b strings.Builder
	for n, i := range which {
		if n > 0 {
			b.WriteString(", ")
		}
		if b.Len() > 400 {
			b.WriteString("…")
			break
		}
		b.WriteString(t.cols[i].raw + "=")
		switch v := tuple[i]; v.Kind {
		case stream.Null:
			b.WriteString("NULL")
		case stream.Unchanged:
			b.WriteString("(not sent)")
		default:
			b.Write(v.Data[:min(len(v.Data), 100)])
		}
	}
	return b.String()
}

// isKey reports whether column i is part of the key.
func (t *table) isKey(i int) bool { return slices.Contains(t.key, i) }

// fit brings a relation and the target's table together by column names, or
// says in a DriftError why that cannot be.
func fit(rel *stream.Relation, into pg.Name, partitioned bool, columns []targetColumn, indexes []uniqueIndex) (*table, error) {
	t := &table{rel: rel, into: into, only: "ONLY ", root: partitioned}
	if partitioned {
		t.only = ""
	}
	byName := map[string]targetColumn{}
	for _, c := range columns {
		byName[c.name] = c
	}
	var problems []string
	byNum := map[int16]int{}
	for i, rc := range rel.Columns {
		tc, ok := byName[rc.Name]
		if !ok {
			problems = append(problems, fmt.Sprintf("column %s does not exist on the target", rc.Name))
			continue
		}
		delete(byName, rc.Name)
		if p := typeProblem(rc, tc); p != "" {
			problems = append(problems, p)
			continue
		}
		byNum[tc.num] = i
		c := column{
			name: pg.QuoteIdent(rc.Name), raw: rc.Name, typ: tc.base.String(), domain: tc.domain, oid: tc.baseOID,
			canon: canonOf(tc), skip: tc.generated, always: tc.identity == "a",
		}
		c.route(tc)
		if c.canon != canonNone {
			c.eq = "OPERATOR(pg_catalog.=)"
		}
		t.cols = append(t.cols, c)
		if !tc.generated {
			t.stored = append(t.stored, i)
		}
	}
	for _, c := range columns {
		if left, ok := byName[c.name]; ok && !left.generated {
			problems = append(problems, fmt.Sprintf("column %s exists on the target only", c.name))
		}
	}
	if len(problems) > 0 {
		return nil, &DriftError{Relation: rel.Name.Display(), Problems: problems}
	}
	t.chooseKey(columns, indexes, byNum)
	return t, nil
}

func typeProblem(rc stream.Column, tc targetColumn) string {
	fits := tc.baseOID == rc.TypeOID
	if rc.TypeOID >= firstUnpinnedOID {
		fits = tc.base == rc.Type
	}
	if !fits {
		source := rc.Type.Display()
		if rc.TypeOID < firstUnpinnedOID {
			source = fmt.Sprintf("another one (oid %d)", rc.TypeOID)
		}
		return fmt.Sprintf("the type of column %s is %s on the target and %s on the source", rc.Name, tc.base.Display(), source)
	}
	if tc.typmod != rc.TypeMod {
		return fmt.Sprintf("the length or precision of column %s differs", rc.Name)
	}
	return ""
}

// chooseKey decides which columns name a row, and by which operators.
func (t *table) chooseKey(columns []targetColumn, indexes []uniqueIndex, byNum map[int16]int) {
	if t.rel.HasKey() {
		for i, c := range t.rel.Columns {
			if c.Key {
				t.key = append(t.key, i)
			}
		}
	}
	for _, x := range indexes {
		cols, ok := t.indexColumns(x, columns, byNum)
		if !ok {
			continue
		}
		sorted := slices.Sorted(slices.Values(cols))
		switch {
		case t.key == nil && t.rel.Identity == stream.IdentityFull:
			t.key = sorted
		case !slices.Equal(t.key, sorted):
			continue
		}
		for n, i := range cols {
			c := &t.cols[i]
			c.eq = x.operators[n]
			if (x.types[n] != pg.Name{}) && x.types[n].String() != c.typ {
				c.eqType = x.types[n].String()
			}
		}
		break
	}
	t.coalesce = t.key != nil
	for _, i := range t.key {
		if t.cols[i].canon == canonNone {
			t.coalesce = false
		}
	}
}

// indexColumns returns the relation's columns of an index, and whether each is sent and never null.
func (t *table) indexColumns(x uniqueIndex, columns []targetColumn, byNum map[int16]int) ([]int, bool) {
	var cols []int
	for _, num := range x.columns {
		i, sent := byNum[num]
		notNull := slices.ContainsFunc(columns, func(c targetColumn) bool { return c.num == num && c.notNull })
		if !sent || !notNull || t.cols[i].skip {
			return nil, false
		}
		cols = append(cols, i)
	}
	return cols, true
}
