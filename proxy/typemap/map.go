package typemap

// FirstUser is where the numbers of objects begin that initdb has not made
// (FirstNormalObjectId, access/transam.h).
const FirstUser = 16384

// aside is the bit that sets a number apart that the client knows for another type.
// PostgreSQL counts OIDs from 16384 up, so that it is not in use.
const aside = 1 << 30

// Kind is what a type is, as pg_type.typtype, or KindArray.
type Kind byte

// The kinds whose binary values hold numbers of types, or may.
const (
	KindArray      Kind = 'a'
	KindComposite  Kind = 'c'
	KindDomain     Kind = 'd'
	KindRange      Kind = 'r'
	KindMultirange Kind = 'm'
)

// Type is a type that is not PostgreSQL's own, in one database.
type Type struct {
	OID          uint32
	Schema, Name string // of the element for an array, whose own name is PostgreSQL's choice
	Kind         Kind
	Elem         uint32 // of an array: its element; of a range or multirange: the subtype; of a domain: what it is a domain of
}

// key is what names a type on both sides.
type key struct {
	schema, name string
	array        bool
}

func (t Type) key() key { return key{t.Schema, t.Name, t.Kind == KindArray} }

// Map translates between the numbers that clients know and those of a server. It is
// not changed once it is made, and safe for concurrent use. A nil Map changes nothing.
type Map struct {
	here     map[uint32]Type   // types of the server, by its numbers
	toClient map[uint32]uint32 // by the server's number
	toServer map[uint32]uint32 // by the client's
}

// New returns the Map between the types as clients know them and those of the server,
// or nil where no number differs.
func New(client, server []Type) *Map {
	known := make(map[key]uint32, len(client))
	for _, t := range client {
		known[t.key()] = t.OID
	}
	m := &Map{here: make(map[uint32]Type, len(server)), toClient: map[uint32]uint32{}, toServer: map[uint32]uint32{}}
	differ := false
	for _, t := range server {
		m.here[t.OID] = t
		if c, ok := known[t.key()]; ok {
			m.toClient[t.OID], m.toServer[c] = c, t.OID
			differ = differ || c != t.OID
		}
	}
	if !differ {
		return nil
	}
	return m
}

// ToClient translates a number of the server.
func (m *Map) ToClient(oid uint32) uint32 {
	if m == nil || oid < FirstUser {
		return oid
	}
	if c, ok := m.toClient[oid]; ok {
		return c
	}
	if _, taken := m.toServer[oid]; taken {
		return oid | aside
	}
	return oid
}

// ToServer translates a number that the client knows.
func (m *Map) ToServer(oid uint32) uint32 {
	if m == nil || oid < FirstUser {
		return oid
	}
	if s, ok := m.toServer[oid]; ok {
		return s
	}
	if oid&aside != 0 {
		if _, taken := m.toServer[oid&^aside]; taken {
			return oid &^ aside
		}
	}
	return oid
}

// Numbers of PostgreSQL's own types (pg_type.dat).
const (
	oidOID       = 26
	oidVector    = 30
	oidArray     = 1028
	recordOID    = 2249
	recordArray  = 2287
	anyArray     = 2277
	regtypeOID   = 2206
	regtypeArray = 2211
)

// maxDepth bounds how deep values are followed into one another.
const maxDepth = 16

// carries reports whether binary values of a type, by the server's number, hold
// numbers of users' types, or may.
func (m *Map) carries(oid uint32) bool { return m.carriesAt(oid, 0) }

func (m *Map) carriesAt(oid uint32, depth int) bool {
	switch oid {
	case recordOID, recordArray, anyArray:
		return true
	}
	if oid < FirstUser || depth > maxDepth {
		return false
	}
	t := m.here[oid]
	switch t.Kind {
	case KindArray:
		return t.Elem >= FirstUser || m.carriesAt(t.Elem, depth+1)
	case KindComposite:
		return true
	case KindDomain, KindRange, KindMultirange:
		return m.carriesAt(t.Elem, depth+1)
	}
	return false
}
