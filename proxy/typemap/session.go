package typemap

import (
	"slices"
)

// Statement is what the server has reported about a prepared statement of the session, in the
// server's numbers.
type Statement struct {
	Name    string
	Text    string   // of its Parse
	Params  []uint32 // types of its parameters
	Columns []Column // of its rows; nil when it returns none or that is not known
}

// Column is what a RowDescription says of a column.
type Column struct {
	Type  uint32
	Table uint32 // that it comes from, 0 for an expression
	Attr  uint16 // its number in that table
}

// Session translates what passes between one client and one server, as a part of the wire.Filter of
// the session, whose methods of the same names call its. Not safe for concurrent use.
type Session struct {
	m *Map

	statements map[string]*statement
	portals    map[string]*portal
	owed       []request // what the server has not answered, of what a Filter is told of
	room       []request // where the first of them are kept
	lost       bool      // the count was given up: rows are not translated any more

	rows []cell // of the rows that come now
}

const (
	headLen = 5 // type and length of a frame, in bytes
	// MaxHeld is how large a frame may be, in bytes, that is translated.
	MaxHeld = 64 << 20
)

// NewSession returns the translation for a session that has the statements already.
func (m *Map) NewSession(have []Statement) *Session {
	s := &Session{m: m, statements: map[string]*statement{}, portals: map[string]*portal{}, room: make([]request, 0, 8)}
	s.owed = s.room
	for _, h := range have {
		st := newStatement([]byte(h.Text))
		st.params, st.cols = h.Params, h.Columns
		s.statements[h.Name] = st
	}
	return s
}

// request is one that the server has not answered.
type request struct {
	kind byte // the type of the client's frame
	sub  byte // of 'D' and 'C': 'S' or 'P'
	name string
	st   *statement // that 'P' made, that 'D' is about, or that 'Q' runs
	p    *portal    // that 'B' made, that 'D' is about, or that 'E' runs

	begun bool // of 'E': its rows have been prepared for; of 'D': a description has come

	wasSt *statement // under the name before 'P' or 'C'
	wasP  *portal    // the same for 'B' and 'C'
}

// first returns the request that the server answers now, nil where none is owed.
func (s *Session) first() *request {
	if len(s.owed) == 0 {
		return nil
	}
	return &s.owed[0]
}

// Answered: the oldest request has its answer.
func (s *Session) Answered() {
	r := s.first()
	if r == nil {
		return
	}
	if r.kind == 'D' && !r.begun {
		r.describe(nil)
	}
	s.take(1)
}

// Refused: the server has refused or passed over the n oldest requests, and what they would have
// made was not made.
func (s *Session) Refused(n int) {
	n = min(n, len(s.owed))
	for _, r := range slices.Backward(s.owed[:n]) {
		s.undo(r)
	}
	s.take(n)
}

// Lost: which request an answer belongs to is not known any more.
func (s *Session) Lost() { s.lost, s.owed, s.rows = true, nil, nil }

// take removes the n oldest requests.
func (s *Session) take(n int) {
	s.rows = nil
	clear(s.owed[:n])
	if s.owed = s.owed[n:]; len(s.owed) == 0 {
		s.owed = s.room[:0]
	}
}

// undo takes back what was noted of a request.
func (s *Session) undo(r request) {
	switch {
	case r.kind == 'P' || r.kind == 'C' && r.sub == 'S':
		restore(s.statements, r.name, r.wasSt)
	case r.kind == 'B' || r.kind == 'C':
		restore(s.portals, r.name, r.wasP)
	}
}

func restore[T any](m map[string]*T, name string, was *T) {
	if was == nil {
		delete(m, name)
		return
	}
	m[name] = was
}

// statement is a prepared statement, or the text of a simple query.
type statement struct {
	query  catalogQuery
	params []uint32 // the server's numbers, 0 where not known
	cols   []Column
}

func newStatement(text []byte) *statement { return &statement{query: scan(text)} }

// portal is a statement with the formats of its parameters and rows.
type portal struct {
	st      *statement
	formats []int16 // as in Bind: none, one for all, or one for each column
	unknown bool    // formats are not
	cols    []Column
	known   bool // cols are, by a Describe of the portal
}

// maxPortals bounds what a client can make the proxy remember: more than that many
// open at once are forgotten.
const maxPortals = 1000

// cell is a column whose values may hold numbers of types.
type cell struct {
	at     int
	typ    uint32
	binary bool
	oids   bool // the value is such numbers
}

// Numbers of the catalogs of types, in all versions.
const (
	pgType      = 1247
	pgAttribute = 1249
	pgEnum      = 3501
	pgRange     = 3541
)

// ofTypes reports whether a column of type oid holds numbers of types. Those of schemas,
// roles and tables count separately, and must not be set aside.
func (c Column) ofTypes() bool {
	switch c.Table {
	case pgType: // but typnamespace, typowner, typrelid (PostgreSQL 12 and later)
		return c.Attr != 3 && c.Attr != 4 && c.Attr != 12
	case pgAttribute: // but attrelid
		return c.Attr != 1
	case pgEnum: // but oid
		return c.Attr != 1
	case pgRange:
		return true
	}
	return false
}

// cells returns which columns of a result are to be translated.
func (s *Session) cells(cols []Column, formats []int16, query catalogQuery) []cell {
	var list []cell
	for i, c := range cols {
		binary := formatOf(formats, i) == 1
		switch c.Type {
		case oidOID, oidArray, oidVector, regtypeOID, regtypeArray:
			named := c.Type == regtypeOID || c.Type == regtypeArray // as text it is a name
			if named && !binary {
				continue
			}
			if named || c.ofTypes() || c.Table == 0 && query.catalog {
				list = append(list, cell{at: i, binary: binary, oids: true})
			}
		default:
			if binary && s.m.carries(c.Type) {
				list = append(list, cell{at: i, typ: c.Type, binary: true})
			}
		}
	}
	return list
}

// result returns the cells of a portal's rows.
func (s *Session) result(p *portal) []cell {
	if p == nil || p.unknown {
		return nil
	}
	cols := p.cols
	if !p.known && p.st != nil {
		cols = p.st.cols
	}
	if len(cols) == 0 {
		return nil
	}
	var query catalogQuery
	if p.st != nil {
		query = p.st.query
	}
	return s.cells(cols, p.formats, query)
}
