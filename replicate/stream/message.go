package stream

import (
	"slices"
	"time"

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
