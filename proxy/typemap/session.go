package typemap

import "sync"

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

// Session translates what passes between one client and one server. Client and
// Server may be called concurrently with one another.
type Session struct {
	m *Map

	mu         sync.Mutex
	statements map[string]*statement
	portals    map[string]*portal
	queue      queue
	failed     bool // the server skips everything up to the next Sync
	copying    bool // the server takes COPY data, and passes over Sync
	lost       bool // the answers are not those that were expected

	rows []cell // of the rows that come now

	fromClient, fromServer framer
}

// NewSession returns the translation for a session that has the statements already.
func (m *Map) NewSession(have []Statement) *Session {
	s := &Session{m: m, statements: map[string]*statement{}, portals: map[string]*portal{}}
	for _, h := range have {
		st := newStatement([]byte(h.Text))
		st.params, st.cols = h.Params, h.Columns
		s.statements[h.Name] = st
	}
	return s
}

// Client takes bytes of the client and returns what goes to the server instead. The
// result may be part of p, and is valid until the next call.
func (s *Session) Client(p []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fromClient.run(p, (*clientSide)(s))
}

// Server takes bytes of the server and returns what goes to the client instead. The
// result may be part of p, and is valid until the next call.
func (s *Session) Server(p []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fromServer.run(p, (*serverSide)(s))
}

// Lost reports that rows are not translated any more.
func (s *Session) Lost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
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
		binary := false
		switch {
		case len(formats) == 1:
			binary = formats[0] == 1
		case i < len(formats):
			binary = formats[i] == 1
		}
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
