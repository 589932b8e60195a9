package workload

import (
	"fmt"
	"sync"

	"crossfade/internal/lab/history"
)

// maxErrors is how many error texts one client keeps.
const maxErrors = 5

// Totals count what clients have done so far.
type Totals struct {
	Acknowledged int // transactions
	Failed       int
	Unknown      int
	Reads        int // that gave an answer
	FailedReads  int
	Stale        int // operations that missed something
	Lost         int // connections
	Reconnected  int
	Refused      int // logins, after a loss
}

// Errors is the number of things that a client of a healthy database never sees.
// Refused logins are not counted: the loss before them is.
func (t Totals) Errors() int { return t.Failed + t.Unknown + t.FailedReads + t.Stale + t.Lost }

func (t *Totals) plus(o Totals) {
	t.Acknowledged += o.Acknowledged
	t.Failed += o.Failed
	t.Unknown += o.Unknown
	t.Reads += o.Reads
	t.FailedReads += o.FailedReads
	t.Stale += o.Stale
	t.Lost += o.Lost
	t.Reconnected += o.Reconnected
	t.Refused += o.Refused
}

// record is what one client has done. Its client writes, others read.
type record struct {
	news *news

	mu     sync.Mutex
	ops    []history.Operation
	totals Totals
	errors []string
}

func (r *record) add(op history.Operation) {
	r.mu.Lock()
	r.ops = append(r.ops, op)
	t := &r.totals
	switch {
	case op.Token.Seq == 0 && op.Outcome == history.OK:
		t.Reads++
	case op.Token.Seq == 0:
		t.FailedReads++
	case op.Outcome == history.OK:
		t.Acknowledged++
	case op.Outcome == history.Failed:
		t.Failed++
	default:
		t.Unknown++
	}
	if op.Error != "" {
		r.keep(fmt.Sprintf("%s %v: %s", op.Kind, op.Outcome, op.Error))
	}
	if op.Stale != "" {
		t.Stale++
		r.keep(op.Kind + ": " + op.Stale)
	}
	r.mu.Unlock()
	r.news.tell()
}

func (r *record) lost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.totals.Lost++
}

func (r *record) reconnected() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.totals.Reconnected++
}

func (r *record) refused(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.totals.Refused++; r.totals.Refused == 1 {
		r.keep("connect again: " + err.Error())
	}
}

func (r *record) keep(text string) {
	if len(r.errors) < maxErrors {
		r.errors = append(r.errors, text)
	}
}

func (r *record) now() Totals {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.totals
}

// news wakes those who wait for progress.
type news struct {
	mu      sync.Mutex
	waiters chan struct{} // nil when nobody waits
}

func (n *news) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiters != nil {
		close(n.waiters)
		n.waiters = nil
	}
}

// next returns a channel that closes at the next news.
func (n *news) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiters == nil {
		n.waiters = make(chan struct{})
	}
	return n.waiters
}
