package wire

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
