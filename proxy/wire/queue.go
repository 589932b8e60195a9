package wire

// kind is one request of the client that the server answers, or the end of its COPY data.
type kind uint8

const (
	kindNone kind = iota
	kindParse
	kindParseUnnamed
	kindParseLate   // one that the proxy has put ahead of the client's message
	kindParseHidden // one that it has sent in a unit of its own
	kindBind
	kindDescribe
	kindExecute
	kindClose
	kindCloseUnnamed
	kindSync
	kindSyncHidden // follows kindParseHidden
	kindQuery
	kindCall
	kindCopyEnd // CopyDone or CopyFail
)

// extended: an error in it makes the server discard everything up to the next Sync.
func (k kind) extended() bool { return k >= kindParse && k <= kindCloseUnnamed }

// late: it is a Parse of the proxy's own.
func (k kind) late() bool { return k == kindParseLate || k == kindParseHidden }

// owed: a Filter is told what becomes of it.
func (k kind) owed() bool { return k.extended() || k == kindQuery }

// ready: it is answered by a ReadyForQuery of its own.
func (k kind) ready() bool { return k >= kindSync && k <= kindCall }

const (
	// maxQueue bounds the memory of one session: no client has a million requests unanswered, since
	// the server stops reading when its replies are not read. Beyond it the count is given up, not
	// the session.
	maxQueue = 1 << 20
	// keepQueue is what an idle session may keep.
	keepQueue = 256
)

// queue is a ring of requests in the order in which the server reads them.
type queue struct {
	buf  []kind // length is a power of two
	from int
	n    int
	late int // how many are Parses of the proxy's own
}

func (q *queue) at(i int) kind { return q.buf[(q.from+i)&(len(q.buf)-1)] }

func (q *queue) head() kind {
	if q.n == 0 {
		return kindNone
	}
	return q.at(0)
}

func (q *queue) push(k kind) bool {
	if q.n == maxQueue {
		return false
	}
	if q.n == len(q.buf) {
		buf := make([]kind, max(32, 2*len(q.buf)))
		for i := range q.n {
			buf[i] = q.at(i)
		}
		q.buf, q.from = buf, 0
	}
	q.buf[(q.from+q.n)&(len(q.buf)-1)] = k
	q.n++
	if k.late() {
		q.late++
	}
	return true
}

func (q *queue) pop() kind {
	k := q.at(0)
	q.from = (q.from + 1) & (len(q.buf) - 1)
	q.n--
	if k.late() {
		q.late--
	}
	if q.n == 0 {
		q.reset()
	}
	return k
}

func (q *queue) reset() {
	q.from, q.n, q.late = 0, 0, 0
	if len(q.buf) > keepQueue {
		q.buf = nil
	}
}

// filter removes Syncs and ends of COPY data only: it keeps the entries after the head for which keep is true.
func (q *queue) filter(keep func(kind) bool) {
	n := min(q.n, 1)
	for i := 1; i < q.n; i++ {
		if k := q.at(i); keep(k) {
			q.buf[(q.from+n)&(len(q.buf)-1)] = k
			n++
		}
	}
	q.n = n
}

// any reports whether an entry after the head is of that sort.
func (q *queue) any(is func(kind) bool) bool {
	for i := 1; i < q.n; i++ {
		if is(q.at(i)) {
			return true
		}
	}
	return false
}

type copyState uint8

const (
	copyNone copyState = iota
	copyIn
	copyOut
	copyBoth
)

// copying is the COPY that runs in a session; the zero value is none.
type copying struct {
	state     copyState
	ended     bool // the end of the client's data is in the queue
	swallowed int  // Syncs sent into it: ignored unless an error comes before they are read
}

// open reports whether the server waits for data of the client.
func (c *copying) open() bool { return (c.state == copyIn || c.state == copyBoth) && !c.ended }

// begin is a CopyInResponse, CopyOutResponse or CopyBothResponse.
func (c *copying) begin(typ byte, q *queue) {
	switch typ {
	case 'H':
		*c = copying{state: copyOut}
		return
	case 'W':
		*c = copying{state: copyBoth}
		return
	}
	*c = copying{state: copyIn}
	// What was pipelined after the COPY: the server ignores Syncs before the end of the data.
	q.filter(func(k kind) bool {
		if k == kindCopyEnd {
			c.ended = true
		}
		if k == kindSync && !c.ended {
			c.swallowed++
			return false
		}
		return true
	})
}

// end is the CommandComplete of whatever ran; it reports false where that cannot be.
func (c *copying) end(q *queue) bool {
	if c.state == copyIn {
		if !c.ended {
			return false
		}
		removed := false
		q.filter(func(k kind) bool {
			if k == kindCopyEnd && !removed {
				removed = true
				return false
			}
			return true
		})
	}
	*c = copying{}
	return true
}

// doubt is what remains unknown after an error in a COPY FROM STDIN into which Syncs had been sent:
// the server ignored those that it read before the error and answers the others. Between least and
// most ReadyForQuery are still to come, ahead of everything in the queue.
type doubt struct {
	least, most int
	skipping    bool // the server may still discard up to a Sync
}

func (d *doubt) open() bool { return d.least != d.most }

// begin is an ErrorResponse to the head, in a COPY into which that many Syncs were sent. It reports
// false where what runs of the rest depends on which Sync ended the discarding.
func (d *doubt) begin(head kind, q *queue, swallowed int) bool {
	if q.any(func(k kind) bool { return k != kindSync && k != kindCopyEnd }) {
		return false
	}
	certain := 0
	for i := 1; i < q.n; i++ {
		if q.at(i) == kindSync {
			certain++
		}
	}
	if head == kindQuery {
		certain++ // the query's own
	}
	*d = doubt{least: certain, most: certain + swallowed, skipping: head != kindQuery && certain == 0}
	return true
}

// sync: one more Sync that is answered for certain.
func (d *doubt) sync() {
	d.least++
	d.most++
	d.skipping = false
}

// ready: a ReadyForQuery came.
func (d *doubt) ready() {
	d.most--
	d.least = max(d.least-1, 0)
	d.skipping = false
}

// Late notes a Parse that the proxy puts ahead of the message of the client that is
// observed next: its ParseComplete is hidden from the client, an error is the client's.
// It reports false where that cannot be done now.
func (t *Tracker) Late() bool {
	return t.canInsert() && t.push(kindParseLate)
}

// LateAlone notes a Parse and a Sync of the proxy's, ahead of a message that begins a
// unit of its own: nothing of the answer is for the client.
func (t *Tracker) LateAlone() bool {
	return !t.unit && t.canInsert() && t.push(kindParseHidden) && t.push(kindSyncHidden)
}

func (t *Tracker) canInsert() bool {
	return !t.lost && !t.closed && !t.skipping && t.copy.state == copyNone && t.doubt.most == 0
}

// Hides reports whether the next frame of the server, of that type, answers what the
// proxy has put in. To be asked at the beginning of a frame.
func (t *Tracker) Hides(typ byte) bool {
	switch head := t.queue.head(); typ {
	case '1':
		return head.late()
	case 'E':
		return head == kindParseHidden
	case 'Z':
		return head == kindSyncHidden
	}
	return false
}

// LateOutstanding is the number of Parses of the proxy's own that are not answered.
func (t *Tracker) LateOutstanding() int { return t.queue.late }
