package state

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"crossfade/internal/base/sqltext"
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// Scope says which parts of two states are compared or made equal.
type Scope int

const (
	// Own is what belongs to the session alone: settings, role, statements.
	Own Scope = 1 << iota
	// Shared is what other sessions can feel: LISTEN and advisory locks. On the
	// other side it is taken in the pause only, when the source's is frozen.
	Shared
	// Everything is both.
	Everything = Own | Shared
)

// Compare returns how have, on the server of a replay, differs from want, by
// name and never by value; nothing means that have is a mirror of want. role
// translates names of roles from want's side to have's; nil keeps them.
func Compare(want, have *State, scope Scope, role func(string) string) []string {
	var d []string
	differ := func(format string, args ...any) { d = append(d, fmt.Sprintf(format, args...)) }
	if scope&Own != 0 {
		if !strings.EqualFold(want.ServerEncoding, have.ServerEncoding) {
			differ("encoding of the database: %s here, %s there", want.ServerEncoding, have.ServerEncoding)
		}
		if translate(role, want.Role) != have.Role {
			differ("role")
		}
		d = append(d, compareSettings(want, have)...)
		d = append(d, compareStatements(want, have)...)
	}
	if scope&Shared != 0 {
		if !maps.Equal(want.Channels, have.Channels) {
			differ("channels of LISTEN")
		}
		if !maps.Equal(want.Locks, have.Locks) {
			differ("advisory locks")
		}
	}
	return d
}

func compareSettings(want, have *State) []string {
	var d []string
	for _, name := range slices.Sorted(maps.Keys(want.Settings)) {
		w := want.Settings[name]
		h, ok := have.Settings[name]
		switch {
		case ignorable(name, want), retired[name] && !(ok && w.SetBySession()):
		case !ok && custom(name):
			// A setting of a library that the other side has not loaded yet.
			if v, set := have.Custom[sqltext.Lower(name)]; !set || v != w.Value {
				d = append(d, "setting "+name)
			}
		case !ok && w.Source != "client" && !w.SetBySession():
			// One that the other side's version does not know, and that was never set.
		case !ok || h.Value != w.Value:
			d = append(d, "setting "+name)
		case carriesReset(name, w) && name != "client_encoding" && h.Reset != w.Reset && !(w.SetBySession() && !slices.Contains(Pinned, name)):
			d = append(d, "value that RESET gives "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.Settings)) {
		if _, ok := want.Settings[name]; !ok && have.Settings[name].SetBySession() && name != "client_encoding" {
			d = append(d, "setting "+name+", which only one side has")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want.Custom)) {
		if _, library := want.Settings[name]; library {
			continue // in its base unit above
		}
		if h, ok := have.Custom[name]; !ok || h != want.Custom[name] {
			d = append(d, "setting "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.Custom)) {
		// A setting that was set and is empty now cannot be distinguished, by its value, from one
		// that was never set.
		if onlyThere(want, have, name) {
			d = append(d, "setting "+name+", which only one side has")
		}
	}
	return d
}

// onlyThere reports that a custom setting has a value in have alone.
func onlyThere(want, have *State, name string) bool {
	_, set := want.Custom[name]
	_, library := want.Settings[name]
	return !set && !library && have.Custom[name] != ""
}

func compareStatements(want, have *State) []string {
	var d []string
	for _, name := range slices.Sorted(maps.Keys(want.Statements)) {
		h, ok := have.Statements[name]
		if !ok || !sameStatement(want.Statements[name], h) {
			d = append(d, fmt.Sprintf("prepared statement %q", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.Statements)) {
		if _, ok := want.Statements[name]; !ok {
			d = append(d, fmt.Sprintf("prepared statement %q, which only one side has", name))
		}
	}
	if (want.Unnamed == nil) != (have.Unnamed == nil) || want.Unnamed != nil && !sameStatement(*want.Unnamed, *have.Unnamed) {
		d = append(d, "unnamed prepared statement")
	}
	return d
}

// sameStatement compares by meaning: a statement made by SQL has another text
// once it was rebuilt, and rebuilds to itself from then on.
// What it was parsed under is compared where both sides know it.
func sameStatement(a, b Statement) bool {
	if a.FromSQL != b.FromSQL || len(a.Types) != len(b.Types) {
		return false
	}
	if a.Under != nil && b.Under != nil && !maps.Equal(a.Under, b.Under) {
		return false
	}
	for i, t := range a.Types {
		if !sameType(t, b.Types[i]) {
			return false
		}
	}
	if !a.FromSQL || a.Text == b.Text {
		return a.Text == b.Text
	}
	ra, errA := RebuildPrepare(a)
	rb, errB := RebuildPrepare(b)
	return errA == nil && errB == nil && ra == rb
}

// sameType compares by name where the type has one, since OIDs of users' types
// differ from server to server.
func sameType(a, b Type) bool {
	if a.Name == "" && b.Name == "" {
		return a.OID == b.OID
	}
	return a.Schema == b.Schema && a.Name == b.Name
}

func translate(role func(string) string, name string) string {
	if role == nil || name == "none" {
		return name
	}
	return role(name)
}

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
