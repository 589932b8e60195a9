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
	return true
}

func (q *queue) pop() kind {
	k := q.at(0)
	q.from = (q.from + 1) & (len(q.buf) - 1)
	q.n--
	if q.n == 0 {
		q.reset()
	}
	return k
}

func (q *queue) reset() {
	q.from, q.n = 0, 0
	if len(q.buf) > keepQueue {
		q.buf = nil
	}
}

// filter keeps the entries after the head for which keep is true.
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
