package stream

import (
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
