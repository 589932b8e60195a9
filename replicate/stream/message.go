package stream

import (
	"slices"
	"strings"
	"time"
	"unsafe"

	"crossfade/internal/base/pg"
)

// Kinds of messages (PostgreSQL documentation 55.9, Logical Replication Message
// Formats, protocol version 1).
const (
	KindBegin    byte = 'B'
	KindCommit   byte = 'C'
	KindOrigin   byte = 'O'
	KindRelation byte = 'R'
	KindType     byte = 'Y'
	KindInsert   byte = 'I'
	KindUpdate   byte = 'U'
	KindDelete   byte = 'D'
	KindTruncate byte = 'T'
	KindMessage  byte = 'M'
)

// Kinds of column values in a tuple.
const (
	Null      byte = 'n'
	Unchanged byte = 'u' // a TOASTed value that the update left alone and that was not sent
	Text      byte = 't'
	Binary    byte = 'b'
)

// Value is one column's value, as the source's output function wrote it. Data
// lies in the memory of the message that it was decoded from.
type Value struct {
	Kind byte
	Data []byte
}

// Kinds of old tuples.
const (
	OldNone byte = 0
	OldKey  byte = 'K' // only key columns hold values; the others say Null without being it
	OldFull byte = 'O' // the whole row
)

// Message is one decoded message; Kind says which fields hold something.
type Message struct {
	Kind byte

	// Begin: XID, LSN (of the commit record), Time. Commit: LSN, EndLSN, Time.
	XID    uint32
	LSN    pg.LSN
	EndLSN pg.LSN
	Time   time.Time

	// Relation (the new description), Insert, Update, Delete.
	Relation *Relation
	Old      byte // OldNone, OldKey or OldFull
	OldTuple []Value
	NewTuple []Value

	// Truncate.
	Relations       []*Relation
	Cascade         bool
	RestartIdentity bool

	// Message: LSN too.
	Transactional bool
	Prefix        string
	Content       []byte
}

// epoch2000 is the zero of PostgreSQL's timestamps, in microseconds of Unix time.
const epoch2000 = 946684800 * 1_000_000

// pgTime turns microseconds since 2000 into a time, in UTC. Out of range values
// of a broken peer give some time, never a panic.
func pgTime(us uint64) time.Time { return time.UnixMicro(int64(us) + epoch2000).UTC() }

// pgMicros is the inverse of pgTime.
func pgMicros(t time.Time) uint64 { return uint64(t.UnixMicro() - epoch2000) }

// Replica identities as a Relation message gives them (pg_class.relreplident).
const (
	IdentityDefault byte = 'd' // the primary key
	IdentityNothing byte = 'n'
	IdentityFull    byte = 'f' // all columns
	IdentityIndex   byte = 'i'
)

// Relation is one table as the source described it at one position of its WAL.
// It never changes once made; a later description makes a new Relation. Two
// changes with the same *Relation have the same columns.
type Relation struct {
	ID       uint32 // the source's oid
	Name     pg.Name
	Identity byte
	Columns  []Column
}

// Column is one published column. Generated columns and dropped ones are not among them.
type Column struct {
	Name    string
	Key     bool // part of the replica identity
	TypeOID uint32
	TypeMod int32
	// Type is the name of the base type, for types that are not built in
	// (oid from 10000 on); otherwise zero.
	Type pg.Name
}

func (r *Relation) equal(o *Relation) bool {
	return r.ID == o.ID && r.Name == o.Name && r.Identity == o.Identity && slices.Equal(r.Columns, o.Columns)
}

// HasKey reports whether the relation has a replica identity other than FULL,
// so that changes carry key columns.
func (r *Relation) HasKey() bool {
	if r.Identity == IdentityFull {
		return false
	}
	return slices.ContainsFunc(r.Columns, func(c Column) bool { return c.Key })
}

// OwnPrefix begins the prefix of every logical message of ours.
const OwnPrefix = "crossfade."

// ownSchema has the tables of ours: servers older than 14 stream rows of them in the place of
// messages.
const ownSchema = "crossfade"

// Change is one change or transactional logical message within a transaction;
// the fields are those of Message.
type Change struct {
	Kind            byte // KindInsert, KindUpdate, KindDelete, KindTruncate or KindMessage
	Old             byte
	RestartIdentity bool
	Relation        *Relation
	OldTuple        []Value
	NewTuple        []Value
	Relations       []*Relation // of a truncate
	Prefix          string
	Content         []byte
}

// Part is a transaction of the source, or one of several consecutive parts of a
// large one. Parts of two transactions never mix. The receiver owns a Part and
// all its memory, and calls Release once when it needs it no longer.
type Part struct {
	XID       uint32
	CommitLSN pg.LSN // start of the commit record; known from the first part on
	EndLSN    pg.LSN // end of the commit record: the position to resume from; only in the last part
	Time      time.Time
	First     bool // the transaction begins here
	Last      bool // the transaction ends here
	Own       bool // the transaction begins with a message of ours, or with a row of a table of ours
	Changes   []Change
	Size      int64 // bytes that the part holds in memory, about

	// Void says that the connection was lost within a transaction: the parts of it that were handed
	// out are to be forgotten, it comes again from its start. Nothing else is set.
	Void bool

	// Idle, if not 0, says that every transaction that ends at or before this
	// position has been handed out. Nothing else is set.
	Idle pg.LSN

	release func(int64)
}

// Release gives the memory of the part back to the Reader's budget.
func (p *Part) Release() {
	if p.release != nil {
		p.release(p.Size)
		p.release = nil
	}
}

const (
	partOverhead   = int64(unsafe.Sizeof(Part{}))
	changeOverhead = int64(unsafe.Sizeof(Change{}))
	valueOverhead  = int64(unsafe.Sizeof(Value{}))
)

// assembler puts messages together to parts.
type assembler struct {
	limit   int64 // a part of at least this size is handed out before its transaction ends
	current *Part // nil outside of a transaction
	seen    bool  // a change or message of the current transaction was seen
}

// add takes one message whose encoded size is size, and returns a part when one is complete.
func (a *assembler) add(m *Message, size int) (*Part, error) {
	switch m.Kind {
	case KindBegin:
		if a.current != nil {
			return nil, malformed("begin within a transaction")
		}
		a.current = &Part{XID: m.XID, CommitLSN: m.LSN, Time: m.Time, First: true, Size: partOverhead}
		a.seen = false
		return nil, nil
	case KindRelation, KindType, KindOrigin:
		return nil, nil
	case KindMessage:
		if !m.Transactional {
			return nil, nil // says nothing about a commit, and comes even from aborted transactions
		}
	}
	p := a.current
	if p == nil {
		return nil, malformed("kind %q outside of a transaction", m.Kind)
	}
	if m.Kind == KindCommit {
		if m.LSN != p.CommitLSN || m.EndLSN <= m.LSN {
			return nil, malformed("commit at %s, ending at %s, of a transaction begun for %s", m.LSN, m.EndLSN, p.CommitLSN)
		}
		p.EndLSN, p.Last = m.EndLSN, true
		a.current = nil
		return p, nil
	}
	if !a.seen {
		a.seen = true
		p.Own = m.Kind == KindMessage && strings.HasPrefix(m.Prefix, OwnPrefix) || m.Relation != nil && m.Relation.Name.Schema == ownSchema
	}
	p.Changes = append(p.Changes, Change{
		Kind: m.Kind, Old: m.Old, RestartIdentity: m.RestartIdentity, Relation: m.Relation,
		OldTuple: m.OldTuple, NewTuple: m.NewTuple, Relations: m.Relations, Prefix: m.Prefix, Content: m.Content,
	})
	p.Size += int64(size) + changeOverhead + valueOverhead*int64(len(m.OldTuple)+len(m.NewTuple))
	if p.Size < a.limit {
		return nil, nil
	}
	a.current = &Part{XID: p.XID, CommitLSN: p.CommitLSN, Time: p.Time, Own: p.Own, Size: partOverhead}
	return p, nil
}

// open reports whether a transaction has begun and not ended.
func (a *assembler) open() bool { return a.current != nil }
