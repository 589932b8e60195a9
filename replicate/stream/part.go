package stream

import (
	"strings"
	"time"
	"unsafe"

	"crossfade/internal/base/pg"
)

// OwnPrefix begins the prefix of every logical message of ours.
const OwnPrefix = "crossfade."

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
	Own       bool // the transaction begins with a message of ours
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
		p.Own = m.Kind == KindMessage && strings.HasPrefix(m.Prefix, OwnPrefix)
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
