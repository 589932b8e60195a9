package state

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// Shape is what a prepared statement takes and returns, in the numbers of its server.
type Shape struct {
	Params  []uint32
	Columns []Column
}

// Column is one of the columns that a statement returns.
type Column struct {
	Name string
	typemap.Column
}

// note takes one answer to a Describe.
func (s *Shape) note(f wire.Frame) error {
	switch f.Type {
	case 't':
		oids, err := wire.DecodeParameterDescription(f.Body)
		if err != nil {
			return err
		}
		s.Params = oids
	case 'T':
		cols, err := wire.DecodeRowDescription(f.Body)
		if err != nil {
			return err
		}
		for _, c := range cols {
			s.Columns = append(s.Columns, Column{c.Name, typemap.Column{Type: c.TypeOID, Table: c.TableOID, Attr: c.Attr}})
		}
	}
	return nil
}

// Known is the shape as the translation of types remembers it.
func (s *Shape) Known(name, text string) typemap.Statement {
	st := typemap.Statement{Name: name, Text: text, Params: s.Params}
	for _, c := range s.Columns {
		st.Columns = append(st.Columns, c.Column)
	}
	return st
}

// CompareShapes returns how the statements that replays have made here differ, in what
// they take and return, from those of want that were described where they are: by
// number, name, type and order. here and there translate numbers of types from this
// side, and from want's, to those that clients know; nil where they are the same.
func (l *Link) CompareShapes(ctx context.Context, want *State, there, here *typemap.Map) ([]string, error) {
	var differs []difference
	compare := func(st Statement) {
		m, ok := l.Prepared[st.Name]
		if ok && st.Shape != nil && m.Text == st.Text {
			differs = append(differs, st.Shape.differences(m.Shape, st.Name, there, here)...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want.Statements)) {
		compare(want.Statements[name])
	}
	if want.Unnamed != nil {
		compare(*want.Unnamed)
	}
	return l.tell(ctx, differs, here)
}

// difference is one in which two shapes differ. Its types are in the numbers that clients know.
type difference struct {
	what              string
	there, here       string
	thereOID, hereOID uint32 // 0 where the types do not differ
}

func (s *Shape) differences(other *Shape, name string, there, here *typemap.Map) []difference {
	statement := "prepared statement " + strconv.Quote(name)
	if name == "" {
		statement = "unnamed prepared statement"
	}
	var list []difference
	if len(s.Params) != len(other.Params) {
		list = append(list, difference{what: statement + " takes", there: counted(len(s.Params), "parameter"), here: counted(len(other.Params), "parameter")})
	} else {
		for i, oid := range s.Params {
			if a, b := there.ToClient(oid), here.ToClient(other.Params[i]); a != b {
				list = append(list, difference{what: fmt.Sprintf("%s, parameter $%d", statement, i+1), thereOID: a, hereOID: b})
			}
		}
	}
	if len(s.Columns) != len(other.Columns) {
		return append(list, difference{what: statement + " returns", there: counted(len(s.Columns), "column"), here: counted(len(other.Columns), "column")})
	}
	for i, c := range s.Columns {
		o := other.Columns[i]
		if a, b := there.ToClient(c.Type), here.ToClient(o.Type); c.Name != o.Name || a != b {
			d := difference{what: fmt.Sprintf("%s, column %d", statement, i+1), there: strconv.Quote(c.Name), here: strconv.Quote(o.Name)}
			if a != b {
				d.thereOID, d.hereOID = a, b
			}
			list = append(list, d)
		}
	}
	return list
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

const typeNameQuery = `SELECT pg_catalog.convert_to(pg_catalog.format_type($1::pg_catalog.oid, NULL), pg_catalog.getdatabaseencoding())`

// tell puts differences into words, with the names that this server has for types.
func (l *Link) tell(ctx context.Context, differs []difference, here *typemap.Map) ([]string, error) {
	names := map[uint32]string{}
	for _, d := range differs {
		for _, oid := range []uint32{d.thereOID, d.hereOID} {
			if _, known := names[oid]; known || oid == 0 {
				continue
			}
			names[oid] = "type " + strconv.FormatUint(uint64(oid), 10)
			l.Command("name a type", typeNameQuery, [][]byte{strconv.AppendUint(nil, uint64(here.ToServer(oid)), 10)}, func(cols [][]byte) error {
				if len(cols) == 1 && cols[0] != nil && string(cols[0]) != "???" {
					names[oid] = string(cols[0])
				}
				return nil
			})
		}
	}
	if err := l.Flush(ctx); err != nil {
		return nil, err
	}
	var list []string
	for _, d := range differs {
		if d.thereOID != 0 {
			d.there, d.here = strings.TrimSpace(d.there+" "+names[d.thereOID]), strings.TrimSpace(d.here+" "+names[d.hereOID])
		}
		list = append(list, fmt.Sprintf("%s: %s where it was prepared, %s on the other side", d.what, d.there, d.here))
	}
	return list, nil
}
