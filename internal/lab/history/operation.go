package history

import (
	"fmt"
	"time"
)

// Outcome is what a client knows of an operation.
type Outcome int

// The outcomes. An operation is Unknown when its COMMIT was sent and no answer
// came.
const (
	OK Outcome = iota
	Failed
	Unknown
)

func (o Outcome) String() string {
	switch o {
	case OK:
		return "ok"
	case Failed:
		return "failed"
	default:
		return "unknown"
	}
}

// Token names one transaction of one client.
type Token struct {
	Client int
	Seq    int64 // from 1, growing by 1 with each transaction that the client begins
}

func (t Token) String() string { return fmt.Sprintf("client %d transaction %d", t.Client, t.Seq) }

// ID is a number that a sequence handed out.
type ID struct {
	Sequence string
	Value    int64
}

// Operation is one thing that a client did: a transaction that writes, with a
// token, or a read, with Seq 0.
type Operation struct {
	Token   Token
	Kind    string // such as "transfer"; for messages
	Start   time.Time
	End     time.Time // when the outcome was known
	Outcome Outcome
	IDs     []ID   // of the answers, in the order of the ledger's ids
	Side    string // the server's system identifier as it said itself; "" when not known
	Slowest Trip   // the longest wait for one answer within the operation
	Stale   string // what a read should have seen and did not; "" when all was well
	Error   string // of an operation that failed or is unknown

	// What it did, for the checker of its sort; at most one is set.
	Lists    []ListOp
	Register *RegisterOp
	Transfer *Transfer
	Balances *Balances
	Attempt  *Attempt
}

// Trip is one message to the server and the wait for its answer.
type Trip struct {
	Start time.Time
	Took  time.Duration
}

// Latency is how long the operation took as its client felt it.
func (o Operation) Latency() time.Duration { return o.End.Sub(o.Start) }

// name is how messages call the operation.
func (o Operation) name() string {
	if o.Token.Seq == 0 {
		return fmt.Sprintf("client %d %s", o.Token.Client, o.Kind)
	}
	return o.Token.String()
}
