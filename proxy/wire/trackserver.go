package wire

import "bytes"

// maxReply is the largest body of a ParameterStatus or CommandComplete that is put together from parts, in bytes. Both are
// short lines; a longer one is counted, but not observed.
const maxReply = 64 << 10

// Server observes bytes from the server that are about to be forwarded. An error means that the
// stream no longer follows the protocol: the bytes must not be forwarded and the session ends.
func (t *Tracker) Server(p []byte) error {
	for len(p) > 0 {
		s := &t.server
		if s.seen == 0 {
			if p = skipData(p, 'D', 'd'); len(p) == 0 {
				return nil
			}
		}
		if s.seen < 5 {
			var done bool
			var err error
			if p, done, err = s.header(p); err != nil {
				return err
			}
			if !done {
				return nil
			}
		}
		var part []byte
		if s.left > 0 {
			if len(p) == 0 {
				return nil
			}
			part, p = s.body(p)
		}
		typ := s.head[0]
		if s.left > 0 || len(part) < int(s.size) {
			part = t.collect(typ, part, s)
		}
		if s.left == 0 {
			if typ == 'Z' && (s.size != 1 || s.first != 'I' && s.first != 'T' && s.first != 'E') {
				return malformed("ReadyForQuery")
			}
			t.answer(typ, part, s.first)
			s.next()
			if cap(t.reply) > readBuffer {
				t.reply = nil
			}
			t.reply = t.reply[:0]
		}
	}
	return nil
}

// collect puts a body together that came in parts, where it is of use.
func (t *Tracker) collect(typ byte, part []byte, s *cursor) []byte {
	if typ != 'S' && typ != 'C' || s.size > maxReply || t.Observer == nil {
		return nil
	}
	t.reply = append(t.reply, part...)
	return t.reply
}

// answer takes note of one whole frame of the server. body is complete for ParameterStatus and CommandComplete, or nil.
func (t *Tracker) answer(typ byte, body []byte, first byte) {
	switch typ {
	case 'D', 'd', 'A', 'N', 'K', 'R', 'v', 'V', 't', 'c', 'g':
		return
	case 'S':
		if t.Observer != nil {
			name, rest, ok := cutNUL(body)
			if value, _, ok2 := cutNUL(rest); ok && ok2 {
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

// match settles the reply with the request at the head of the queue and reports whether the two belong together.
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
	t.queue.pop()
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
	for t.queue.n > 0 && t.queue.head() != kindSync && t.queue.head() != kindSyncHidden {
		if t.queue.pop() == kindParseUnnamed {
			t.pending.pop()
		}
	}
	if !t.recording {
		t.pending.idle()
	}
	t.skipping = t.queue.n == 0
	t.unit = t.unit && !t.skipping
	return true
}
