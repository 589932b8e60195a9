package wire

import "bytes"

// maxReply is the largest body of a ParameterStatus or CommandComplete that is put together from
// parts, in bytes. Both are short lines; a longer one is counted, but not observed.
const maxReply = 64 << 10

// Server observes bytes from the server as Client does those of the client.
func (t *Tracker) Server(p []byte) ([]byte, error) { return t.server.run(p, (*serverSide)(t)) }

// Inject observes whole frames from a server that no Filter may change.
func (t *Tracker) Inject(p []byte) ([]byte, error) {
	filter := t.Filter
	t.Filter = nil
	defer func() { t.Filter = filter }()
	return t.Server(p)
}

// serverSide is a Tracker as the listener of the server's frames.
type serverSide Tracker

func (t *serverSide) bulk(p []byte) int {
	if t.Filter != nil && (p[0] != 'D' || t.Filter.ServerHolds('D') > 0) {
		return bulk(p, 'd', 'd')
	}
	return bulk(p, 'D', 'd')
}

func (t *serverSide) begin(typ byte) int {
	if t.Filter == nil {
		return 0
	}
	return t.Filter.ServerHolds(typ)
}

func (t *serverSide) head() { t.reply, t.body = t.reply[:0], nil }

// part puts together the bodies that answer needs.
func (t *serverSide) part(p []byte) {
	c := &t.server
	switch typ := c.head[0]; {
	case typ != 'S' && typ != 'C' || t.Observer == nil:
	case len(p) == int(c.size):
		t.body = p
	case c.size <= maxReply:
		t.reply = append(t.reply, p...)
		t.body = t.reply
	}
}

func (t *serverSide) prefix([]byte) {}

func (t *serverSide) whole(frame []byte) ([]byte, error) {
	now := t.Filter.ServerFrame(frame)
	return now, t.passed(false)
}

func (t *serverSide) passed(bool) error {
	c := &t.server
	if c.head[0] == 'Z' && (c.size != 1 || c.first != 'I' && c.first != 'T' && c.first != 'E') {
		return malformed("ReadyForQuery")
	}
	(*Tracker)(t).answer(c.head[0], t.body, c.first)
	if t.body = nil; cap(t.reply) > readBuffer {
		t.reply = nil
	}
	return nil
}

// answer takes note of one whole frame of the server. body is complete for ParameterStatus and
// CommandComplete, or nil.
func (t *Tracker) answer(typ byte, body []byte, first byte) {
	switch typ {
	case 'D', 'd', 'A', 'N', 'K', 'R', 'v', 'V', 't', 'c', 'g':
		return
	case 'S':
		if t.Observer != nil {
			name, rest, ok := bytes.Cut(body, []byte{0})
			if value, _, ok2 := bytes.Cut(rest, []byte{0}); ok && ok2 {
				t.Observer.ParameterStatus(name, value)
			}
		}
		return
	case 'Z':
		t.status = first
	case 'E':
		if t.Observer != nil {
			t.Observer.Refused()
		}
	case 'C':
		if t.Observer != nil && len(body) > 0 {
			t.Observer.CommandComplete(bytes.TrimSuffix(body, []byte{0}))
		}
	}
	if t.lost {
		return
	}
	if t.doubt.most > 0 {
		if typ == 'Z' {
			t.doubt.ready()
			return
		}
		// Syncs are answered by ReadyForQuery alone: this reply proves that all of them have been
		// handled.
		t.doubt = doubt{}
		if t.queue.n == 0 {
			t.lose()
			return
		}
	}
	if !t.match(typ) {
		t.lose()
	}
}

// match settles the reply with the request at the head of the queue and reports whether the two
// belong together.
func (t *Tracker) match(typ byte) bool {
	head := t.queue.head()
	switch typ {
	case 'Z':
		if !head.ready() {
			return false
		}
		t.copy = copying{}
		if head == kindQuery && t.Observer != nil {
			t.Observer.Simple()
		}
		t.pop()
		return true
	case '1':
		return t.parsed(head)
	case '2':
		return t.expect(head == kindBind)
	case '3':
		if head == kindCloseUnnamed && t.Observer != nil {
			t.Observer.Simple()
		}
		return t.expect(head == kindClose || head == kindCloseUnnamed)
	case 'T', 'n':
		if head == kindQuery {
			return true
		}
		return t.expect(head == kindDescribe)
	case 'C', 'I', 's':
		if head != kindQuery && head != kindExecute {
			return false
		}
		if !t.copy.end(&t.queue) {
			return false
		}
		if head == kindExecute {
			t.pop()
		}
		return true
	case 'G', 'H', 'W':
		if head != kindQuery && head != kindExecute {
			return false
		}
		t.copy.begin(typ, &t.queue)
		if typ == 'G' && head == kindExecute && !t.queue.any(kind.ready) {
			t.unit = true
		}
		return true
	case 'E':
		return t.refused(head)
	}
	return true // a type that came after this was written: taken as one that answers nothing
}

func (t *Tracker) expect(ok bool) bool {
	if ok {
		t.pop()
	}
	return ok
}

func (t *Tracker) parsed(head kind) bool {
	if head == kindParseUnnamed {
		body := t.pending.pop()
		if t.Observer != nil {
			t.Observer.Parse(body)
		}
		if !t.recording {
			t.pending.idle()
		}
	}
	return t.expect(head >= kindParse && head <= kindParseHidden)
}

// pop removes the head and, after it, ends of COPY data for which there was no COPY: the server
// ignores these.
func (t *Tracker) pop() {
	if t.queue.pop().owed() && t.Filter != nil {
		t.Filter.Answered()
	}
	for t.queue.head() == kindCopyEnd {
		t.queue.pop()
	}
}

// refused is an ErrorResponse.
func (t *Tracker) refused(head kind) bool {
	if head == kindNone {
		return false // a session that dies, or a timeout between the messages of a unit
	}
	if t.copy.state == copyIn && t.copy.swallowed > 0 {
		if !t.doubt.begin(head, &t.queue, t.copy.swallowed) {
			return false
		}
		if head == kindQuery && t.Observer != nil {
			t.Observer.Simple()
		}
		if t.Filter != nil && head.owed() {
			t.Filter.Answered()
		}
		t.queue.reset()
		t.unit, t.copy = false, copying{}
		return true
	}
	t.copy = copying{}
	if !head.extended() {
		return true // its ReadyForQuery follows
	}
	if head == kindParseUnnamed && t.Observer != nil {
		t.Observer.Simple() // the old one is dropped before the new one is checked
	}
	passedOver := 0
	for t.queue.n > 0 && t.queue.head() != kindSync && t.queue.head() != kindSyncHidden {
		k := t.queue.pop()
		if k == kindParseUnnamed {
			t.pending.pop()
		}
		if k.owed() {
			passedOver++
		}
	}
	if t.Filter != nil {
		t.Filter.Refused(passedOver)
	}
	if !t.recording {
		t.pending.idle()
	}
	t.skipping = t.queue.n == 0
	t.unit = t.unit && !t.skipping
	return true
}
