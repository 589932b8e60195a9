package stream

import (
	"errors"
	"fmt"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/walk"
)

// maxColumns is PostgreSQL's MaxTupleAttributeNumber, with which no tuple of a
// sound server has more columns.
const maxColumns = 1664

// Decoder decodes the pgoutput messages of one replication session. It keeps
// what Relation and Type messages said, so messages must be fed in order; a new
// session needs a new Decoder. It is not safe for concurrent use.
type Decoder struct {
	relations map[uint32]*Relation
	types     map[uint32]pg.Name
	values    slab[Value]
}

// NewDecoder returns a decoder for a new replication session.
func NewDecoder() *Decoder {
	return &Decoder{relations: map[uint32]*Relation{}, types: map[uint32]pg.Name{}}
}

// Decode decodes one message into m, which is overwritten. Values and content
// in m alias p. Any input gives a message or an error that is ErrMalformed.
func (d *Decoder) Decode(p []byte, m *Message) error {
	*m = Message{}
	c := cursor{walk.Bytes{Rest: p}}
	m.Kind = c.Byte()
	var err error
	switch m.Kind {
	case KindBegin:
		m.LSN, m.Time, m.XID = c.lsn(), pgTime(c.Uint64()), c.Uint32()
	case KindCommit:
		if flags := c.Byte(); flags != 0 {
			return malformed("commit with flags %d", flags)
		}
		m.LSN, m.EndLSN, m.Time = c.lsn(), c.lsn(), pgTime(c.Uint64())
	case KindOrigin:
		m.LSN = c.lsn()
		_ = c.cstring()
	case KindRelation:
		m.Relation, err = d.relation(&c)
	case KindType:
		oid := c.Uint32()
		name := pg.Name{Schema: namespace(c.cstring()), Name: c.cstring()}
		if !c.Bad {
			d.types[oid] = name
		}
	case KindInsert:
		err = d.insert(&c, m)
	case KindUpdate:
		err = d.update(&c, m)
	case KindDelete:
		err = d.delete(&c, m)
	case KindTruncate:
		err = d.truncate(&c, m)
	case KindMessage:
		m.Transactional = c.Byte()&1 != 0
		m.LSN, m.Prefix = c.lsn(), c.cstring()
		m.Content = c.Take(int(c.Uint32()))
	default:
		return malformed("kind %q", m.Kind)
	}
	switch {
	case err != nil:
		return err
	case c.Bad:
		return malformed("kind %q is cut short", m.Kind)
	case len(c.Rest) > 0:
		return malformed("kind %q has %d bytes too many", m.Kind, len(c.Rest))
	}
	return nil
}

// namespace undoes the protocol's abbreviation of pg_catalog.
func namespace(s string) string {
	if s == "" {
		return "pg_catalog"
	}
	return s
}

func (d *Decoder) relation(c *cursor) (*Relation, error) {
	r := &Relation{ID: c.Uint32()}
	r.Name.Schema = namespace(c.cstring())
	r.Name.Name = c.cstring()
	r.Identity = c.Byte()
	n := int(c.Uint16())
	if n > maxColumns || n > len(c.Rest) {
		return nil, malformed("relation with %d columns", n)
	}
	r.Columns = make([]Column, n)
	for i := range r.Columns {
		col := &r.Columns[i]
		col.Key = c.Byte()&1 != 0
		col.Name = c.cstring()
		col.TypeOID = c.Uint32()
		col.TypeMod = int32(c.Uint32())
		col.Type = d.types[col.TypeOID]
	}
	if c.Bad {
		return nil, malformed("relation is cut short")
	}
	if old := d.relations[r.ID]; old != nil && old.equal(r) {
		return old, nil
	}
	d.relations[r.ID] = r
	return r, nil
}

func (d *Decoder) known(oid uint32) (*Relation, error) {
	if r := d.relations[oid]; r != nil {
		return r, nil
	}
	return nil, malformed("change of relation %d, which was not described", oid)
}

func (d *Decoder) insert(c *cursor, m *Message) (err error) {
	if m.Relation, err = d.known(c.Uint32()); err != nil {
		return err
	}
	if k := c.Byte(); k != 'N' {
		return malformed("insert with tuple %q", k)
	}
	m.NewTuple, err = d.tuple(c, m.Relation)
	return err
}

func (d *Decoder) update(c *cursor, m *Message) (err error) {
	if m.Relation, err = d.known(c.Uint32()); err != nil {
		return err
	}
	k := c.Byte()
	if k == OldKey || k == OldFull {
		m.Old = k
		if m.OldTuple, err = d.tuple(c, m.Relation); err != nil {
			return err
		}
		k = c.Byte()
	}
	if k != 'N' {
		return malformed("update with tuple %q", k)
	}
	m.NewTuple, err = d.tuple(c, m.Relation)
	return err
}

func (d *Decoder) delete(c *cursor, m *Message) (err error) {
	if m.Relation, err = d.known(c.Uint32()); err != nil {
		return err
	}
	if m.Old = c.Byte(); m.Old != OldKey && m.Old != OldFull {
		return malformed("delete with tuple %q", m.Old)
	}
	m.OldTuple, err = d.tuple(c, m.Relation)
	return err
}

func (d *Decoder) truncate(c *cursor, m *Message) error {
	n := int(c.Uint32())
	flags := c.Byte()
	m.Cascade, m.RestartIdentity = flags&1 != 0, flags&2 != 0
	if n < 0 || n > len(c.Rest)/4 {
		return malformed("truncate of %d relations", n)
	}
	m.Relations = make([]*Relation, n)
	for i := range m.Relations {
		var err error
		if m.Relations[i], err = d.known(c.Uint32()); err != nil {
			return err
		}
	}
	return nil
}

func (d *Decoder) tuple(c *cursor, r *Relation) ([]Value, error) {
	n := int(c.Uint16())
	if n != len(r.Columns) {
		return nil, malformed("tuple with %d columns for %s, which has %d", n, r.Name.Display(), len(r.Columns))
	}
	if n > len(c.Rest) {
		return nil, malformed("tuple is cut short")
	}
	vals := d.values.take(n, valueSlab)
	for i := range vals {
		v := &vals[i]
		v.Kind = c.Byte()
		switch v.Kind {
		case Null, Unchanged:
		case Text, Binary:
			v.Data = c.Take(int(int32(c.Uint32())))
		default:
			return nil, malformed("column value of kind %q", v.Kind)
		}
	}
	if c.Bad {
		return nil, malformed("tuple is cut short")
	}
	return vals, nil
}

// ErrMalformed is wrapped by every error about bytes that are no message of the
// logical replication protocol.
var ErrMalformed = errors.New("malformed replication message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// cursor is a walk over the fields of a message of the protocol.
type cursor struct{ walk.Bytes }

func (c *cursor) lsn() pg.LSN { return pg.LSN(c.Uint64()) }

// cstring reads up to the next zero byte and past it. The result is a copy.
func (c *cursor) cstring() string { return string(c.Text()) }

const (
	// valueSlab is how many values are taken from the heap at once: enough that the heap is asked
	// once in some hundred messages, few enough that a small transaction that outlives its
	// neighbours holds little.
	valueSlab = 2048
	// byteSlab is the allocation unit of message bytes.
	byteSlab = 64 << 10
)

// slab hands out slices of T from larger allocations. The garbage collector
// frees an allocation when the last slice of it is unreachable.
type slab[T any] struct{ free []T }

// take returns n zeroed elements that nobody else has; size is how many are taken from the heap.
func (s *slab[T]) take(n, size int) []T {
	if n > size/4 {
		return make([]T, n)
	}
	if n > len(s.free) {
		s.free = make([]T, size)
	}
	v := s.free[:n:n]
	s.free = s.free[n:]
	return v
}
