package apply

import (
	"bytes"
	"encoding/binary"
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

func (t *table) name() pg.Name   { return t.into }
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
