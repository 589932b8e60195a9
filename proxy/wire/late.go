package wire

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
		return head == kindParseLate || head == kindParseHidden
	case 'E':
		return head == kindParseHidden
	case 'Z':
		return head == kindSyncHidden
	}
	return false
}

// LateOutstanding is the number of Parses of the proxy's own that are not answered.
func (t *Tracker) LateOutstanding() int {
	n := 0
	for i := range t.queue.n {
		if k := t.queue.at(i); k == kindParseLate || k == kindParseHidden {
			n++
		}
	}
	return n
}
