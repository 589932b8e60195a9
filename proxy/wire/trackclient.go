package wire

// Client observes bytes from the client and returns what is to be forwarded in their place: p
// itself where there is no Filter. The result may be part of p and is valid until the next call. An
// error means that the stream no longer follows the protocol: nothing must be forwarded and the
// session ends.
func (t *Tracker) Client(p []byte) ([]byte, error) { return t.client.run(p, (*clientSide)(t)) }

// clientSide is a Tracker as the listener of the client's frames.
type clientSide Tracker

func (t *clientSide) bulk(p []byte) int {
	if p[0] != 'd' {
		return 0
	}
	_, _, rest, ok := Cut(p)
	if !ok {
		return 0
	}
	t.frames++
	return len(p) - len(rest)
}

func (t *clientSide) begin(typ byte) int {
	t.frames++
	if t.Filter == nil {
		return 0
	}
	return t.Filter.ClientHolds(typ)
}

func (t *clientSide) head() {
	t.follows = t.Follower != nil && t.Follower.Begin(t.client.head[0], t.client.size)
}

func (t *clientSide) part(p []byte) {
	c := &t.client
	if len(p) > 0 && c.size-c.left == uint32(len(p)) && c.head[0] == 'P' && c.first == 0 && !t.lost && !t.skipping {
		t.recording = true
		t.pending.open(c.size)
	}
	if t.recording {
		t.pending.add(p)
	}
	if t.follows {
		t.Follower.Part(p, c.left == 0)
	}
}

func (t *clientSide) prefix(held []byte) { t.ahead(held) }

func (t *clientSide) ahead(frame []byte) {
	if t.insert = t.Filter.Ahead(t.insert[:0], frame); len(t.insert) > 0 {
		t.client.out.add(t.insert)
	}
}

func (t *clientSide) whole(frame []byte) ([]byte, error) {
	t.ahead(frame)
	return t.Filter.ClientFrame(frame, (*Tracker)(t).request(requestKind(&t.client.Cursor))), nil
}

func (t *clientSide) passed(large bool) error {
	queued := (*Tracker)(t).request(requestKind(&t.client.Cursor))
	if large {
		t.Filter.ClientLarge(t.client.head[0], queued)
	}
	return nil
}

// Kinds of client frames that are not queued.
const (
	kindPassive kind = 100 + iota // CopyData, Flush: no answer, no state
	kindTerminate
	kindUnknown
)

var requestKinds = [256]kind{
	'Q': kindQuery, 'F': kindCall, 'S': kindSync, 'X': kindTerminate,
	'P': kindParse, 'B': kindBind, 'D': kindDescribe, 'E': kindExecute, 'C': kindClose,
	'c': kindCopyEnd, 'f': kindCopyEnd, 'd': kindPassive, 'H': kindPassive,
}

func requestKind(c *Cursor) kind {
	switch k := requestKinds[c.head[0]]; {
	case k == kindNone:
		return kindUnknown
	case k == kindParse && c.size > 0 && c.first == 0:
		return kindParseUnnamed
	case k == kindClose && c.size == 2 && c.first == 'S':
		return kindCloseUnnamed
	default:
		return k
	}
}

// request takes note of one whole frame of the client and reports whether it was queued.
func (t *Tracker) request(k kind) bool {
	recorded := t.recording
	t.recording = false
	if t.admit(k) {
		if recorded {
			t.pending.keep()
		} else if k == kindParseUnnamed {
			t.pending.open(MaxObservedParse + 1) // its body was not followed from the start
			t.pending.keep()
		}
		return true
	}
	if recorded && !t.lost {
		t.pending.drop()
	}
	return false
}

// admit queues the request and reports whether it did.
func (t *Tracker) admit(k kind) bool {
	switch {
	case k == kindPassive:
		return false
	case k == kindTerminate:
		t.closed = true
		return false
	case t.lost:
		return false
	case k == kindUnknown:
		t.lose()
		return false
	case k == kindCopyEnd:
		// Outside a COPY the server ignores it; whether one begins is known to whatever is ahead in
		// the queue.
		if t.skipping || t.queue.n == 0 {
			return false
		}
		if t.copy.open() {
			t.copy.ended = true
		}
		return t.push(k)
	case t.skipping:
		if k != kindSync {
			return false
		}
		t.skipping = false
	case t.doubt.most > 0 && t.queue.n == 0:
		if k == kindSync {
			t.doubt.sync()
			t.unit = false
			return false
		}
		if t.doubt.skipping {
			t.lose() // executed or discarded, depending on which Syncs were swallowed
			return false
		}
	case k == kindSync && t.copy.state == copyIn && !t.copy.ended:
		t.copy.swallowed++
		return false
	}
	t.unit = k.extended()
	return t.push(k)
}

func (t *Tracker) push(k kind) bool {
	if !t.queue.push(k) {
		t.lose()
		return false
	}
	return true
}
