package wire

// Client observes bytes from the client that are about to be forwarded. An error means that the
// stream no longer follows the protocol: the bytes must not be forwarded and the session ends.
func (t *Tracker) Client(p []byte) error {
	for len(p) > 0 {
		c := &t.client
		if c.seen < 5 {
			if c.seen == 0 {
				t.frames++
				if n := wholeFrame(p, 'd', 'd'); n > 0 { // the bulk of a COPY
					p = p[n:]
					continue
				}
			}
			var done bool
			var err error
			if p, done, err = c.header(p); err != nil {
				return err
			}
			if !done {
				return nil
			}
		}
		if c.left > 0 {
			if len(p) == 0 {
				return nil
			}
			start := c.left == c.size
			var part []byte
			part, p = c.body(p)
			if start && c.head[0] == 'P' && c.first == 0 && !t.lost && !t.skipping {
				t.recording = true
				t.pending.open(c.size)
			}
			if t.recording {
				t.pending.add(part)
			}
		}
		if c.left == 0 {
			t.request(requestKind(c))
			c.next()
		}
	}
	return nil
}

// Kinds of client frames that are not queued.
const (
	kindPassive kind = 100 + iota // CopyData, Flush: no answer, no state
	kindTerminate
	kindUnknown
)

func requestKind(c *cursor) kind {
	switch c.head[0] {
	case 'Q':
		return kindQuery
	case 'S':
		return kindSync
	case 'P':
		if c.size > 0 && c.first == 0 {
			return kindParseUnnamed
		}
		return kindParse
	case 'B':
		return kindBind
	case 'D':
		return kindDescribe
	case 'E':
		return kindExecute
	case 'C':
		if c.size == 2 && c.first == 'S' {
			return kindCloseUnnamed
		}
		return kindClose
	case 'F':
		return kindCall
	case 'c', 'f':
		return kindCopyEnd
	case 'd', 'H':
		return kindPassive
	case 'X':
		return kindTerminate
	}
	return kindUnknown
}

// request takes note of one whole frame of the client.
func (t *Tracker) request(k kind) {
	recorded := t.recording
	t.recording = false
	if t.admit(k) {
		if recorded {
			t.pending.keep()
		} else if k == kindParseUnnamed {
			t.pending.open(MaxObservedParse + 1) // its body was not followed from the start
			t.pending.keep()
		}
		return
	}
	if recorded && !t.lost {
		t.pending.drop()
	}
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
		// Outside a COPY the server ignores it; whether one begins is known to whatever is ahead in the queue.
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
