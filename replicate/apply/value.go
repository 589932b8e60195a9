package apply

import (
	"encoding/binary"
	"fmt"
	"slices"

	"crossfade/replicate/stream"
)

// travel is how the values of a column, as an output function wrote them, reach the input function
// of their type. It is never a cast that has to be looked up: the owner of a type may define what a
// cast from text does, the input function is the type's own.
type travel byte

const (
	byText     travel = iota // the type takes text unchanged, by a cast that no user can define or drop
	byFunction               // text, given to the input function by its name
	byArray                  // an array of the type itself in binary, whose elements are text: enums
	byRecord                 // a field of a JSON record, which the server gives to the input function
)

const textType = "pg_catalog.text"

// textTypes are stored as text is, and have casts of the server's own from it.
var textTypes = []string{"text", "varchar", "bpchar"}

// route decides how the column's values travel. The input functions of arrays, composite types and
// ranges cannot be called by name: what they return depends on where they are called.
func (c *column) route(tc targetColumn) {
	switch {
	case tc.base.Schema == "pg_catalog" && slices.Contains(textTypes, tc.base.Name):
		c.travel = byText
	case tc.baseKind == "e":
		c.travel = byArray
	case tc.inputArgs == 1:
		c.travel, c.input = byFunction, tc.input.String()+"(pg_catalog.textout(%s))"
	case tc.inputArgs == 3:
		c.travel = byFunction
		c.input = fmt.Sprintf("%s(pg_catalog.textout(%%s), %d::pg_catalog.oid, -1)", tc.input, tc.inputType)
	default:
		c.travel = byRecord
	}
}

// asKey is the column as part of a key: where nothing tells equal values but their
// text, they stay text.
func (c *column) asKey() *column {
	if c.eq == "" {
		return &column{typ: textType}
	}
	return c
}

// item is the FROM item that makes a column of values of parameter n.
func (c *column) item(n int) string {
	switch c.travel {
	case byArray:
		return fmt.Sprintf("pg_catalog.unnest($%d::%s[])", n, c.typ)
	case byRecord:
		return fmt.Sprintf("pg_catalog.json_to_recordset($%d::pg_catalog.json) AS (v %s)", n, c.typ)
	}
	return fmt.Sprintf("pg_catalog.unnest($%d::pg_catalog.text[])", n)
}

// length is the number of values in parameter n.
func (c *column) length(n int) string {
	switch c.travel {
	case byArray:
		return fmt.Sprintf("pg_catalog.cardinality($%d::%s[])", n, c.typ)
	case byRecord:
		return fmt.Sprintf("pg_catalog.json_array_length($%d::pg_catalog.json)", n)
	}
	return fmt.Sprintf("pg_catalog.cardinality($%d::pg_catalog.text[])", n)
}

// value turns what item gave into a value of the column's base type, without its
// modifier, so that one that does not fit is an error.
func (c *column) value(ref string) string {
	switch {
	case c.travel == byFunction:
		return fmt.Sprintf(c.input, ref)
	case c.travel == byText && c.typ != textType:
		return "(" + ref + ")::" + c.typ
	}
	return ref
}

// param is the parameter of n values that item reads, in binary format.
func (c *column) param(n int, at func(int) stream.Value) []byte {
	switch c.travel {
	case byArray:
		return valueArray(c.oid, n, at)
	case byRecord:
		return records(n, at)
	}
	return valueArray(oidText, n, at)
}

// base is the column as its base type, for which no operator of a domain counts.
func (c *column) base(alias string) string {
	if c.domain {
		return "(" + alias + "." + c.name + ")::" + c.typ
	}
	return alias + "." + c.name
}

// comparable is the column as the type that its key's operator takes, so that no
// other operator of that name fits as well.
func (c *column) comparable(alias string) string { return c.forOperator(c.base(alias)) }

func (c *column) forOperator(expr string) string {
	if c.eqType == "" {
		return expr
	}
	return "(" + expr + ")::" + c.eqType
}

// text gives what the output function says of the target's value.
func (c *column) text(alias string) string {
	return "pg_catalog.format('%s', " + alias + "." + c.name + `) COLLATE pg_catalog."C"`
}

// count is the number of rows that a statement of arrays is given.
func (t *table) count(s shape) string {
	if s.op == 'I' {
		return t.cols[t.stored[0]].length(1)
	}
	return t.cols[t.key[0]].asKey().length(1)
}

const oidText = 25

// valueArray encodes n values as a one-dimensional array in PostgreSQL's binary array format, in
// which elements need no quoting: each is the bytes that the source's output function wrote. The
// element is a type whose binary form is text: text itself, or an enum.
func valueArray(element uint32, n int, at func(int) stream.Value) []byte {
	size := 20
	hasNull := uint32(0)
	for i := range n {
		v := at(i)
		size += 4 + len(v.Data)
		if v.Kind == stream.Null {
			hasNull = 1
		}
	}
	b := make([]byte, 0, size)
	b = binary.BigEndian.AppendUint32(b, 1) // dimensions
	b = binary.BigEndian.AppendUint32(b, hasNull)
	b = binary.BigEndian.AppendUint32(b, element)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = binary.BigEndian.AppendUint32(b, 1) // lower bound
	for i := range n {
		v := at(i)
		if v.Kind == stream.Null {
			b = binary.BigEndian.AppendUint32(b, 0xffffffff)
			continue
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(v.Data)))
		b = append(b, v.Data...)
	}
	return b
}

// records encodes n values as a JSON array of records with one field, v. A value is
// a JSON string, in which three sorts of bytes need an escape.
func records(n int, at func(int) stream.Value) []byte {
	size := 2
	for i := range n {
		size += len(at(i).Data) + len(`{"v":""},`)
	}
	b := append(make([]byte, 0, size+size/8), '[')
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		v := at(i)
		if v.Kind == stream.Null {
			b = append(b, `{"v":null}`...)
			continue
		}
		b = append(b, `{"v":"`...)
		for _, c := range v.Data {
			switch {
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			case c < 0x20:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
			default:
				b = append(b, c)
			}
		}
		b = append(b, `"}`...)
	}
	return append(b, ']')
}

const hexDigits = "0123456789abcdef"
