package wire

import (
	"encoding/binary"
)

// Observer is told what a session must remember. The calls come from Tracker.Client and
// Tracker.Server, under the session's lock; slices are valid only during the call.
type Observer interface {
	// Parse: the unnamed statement is now this one: its ParseComplete came. body is the body of its
	// Parse frame, or nil when it is larger than MaxObservedParse or not known: such a session
	// cannot be replayed.
	Parse(body []byte)
	// Simple: there is no unnamed statement any more (a simple Query ran, it was closed, or its
	// Parse was refused).
	Simple()
	// ParameterStatus: the server reported a setting.
	ParameterStatus(name, value []byte)
	// CommandComplete: a command ended with this tag.
	CommandComplete(tag []byte)
	// Refused: the server has sent an ErrorResponse.
	Refused()
}

// MaxObservedParse is the largest unnamed Parse that is remembered, in bytes. Statements are text
// that people or ORMs write; a megabyte is far above them and bounds what a session can pin.
const MaxObservedParse = 1 << 20

// Reasons that Tracker.Reason gives.
const (
	ReasonTransaction = "in transaction"
	ReasonOutstanding = "reply outstanding"
	ReasonUnit        = "extended unit open"
	ReasonCopy        = "copy"
	ReasonPartial     = "partial frame"
	ReasonUncertain   = "count uncertain"
	ReasonTerminated  = "client terminated"
)

// Tracker counts the requests and replies of one session (see the package comment). The zero value
// is a session that has just logged in: idle, nothing outstanding. It is shown the bytes of both
// directions before they are written, in any cut. It reads no socket and allocates nothing in the
// steady state. Not safe for concurrent use.
type Tracker struct {
	Observer Observer // may be nil, as may the next two
	Follower Follower
	Filter   Filter

	client, server walker
	frames         uint64
	follows        bool // the Follower wants the client's frame under way
	status         byte // 0 before the first ReadyForQuery

	queue    queue
	unit     bool // extended messages since the last Sync, Query or FunctionCall that counts
	skipping bool // the server discards until a Sync that has not been sent
	closed   bool // Terminate was sent

	copy  copying
	doubt doubt
	lost  bool // the count was given up; only Settle restores it

	pending   pendingParse
	recording bool   // the client's frame in progress goes to pending
	insert    []byte // what goes ahead of a frame of the client
	body      []byte // of the server's frame under way, where it is of use
	reply     []byte // the same, of one that came in parts
}

// Boundary reports whether the session may move now: idle outside a transaction, every request
// answered, no unit open, no COPY, no part of a frame forwarded in either direction.
func (t *Tracker) Boundary() bool { return t.Reason() == "" }

// Status is the transaction status of the last ReadyForQuery: 'I', 'T' or 'E'.
func (t *Tracker) Status() byte {
	if t.status == 0 {
		return 'I'
	}
	return t.status
}

// Reason says why this is not a boundary, as one of the Reason constants; empty at a boundary.
func (t *Tracker) Reason() string {
	switch {
	case t.closed:
		return ReasonTerminated
	case t.lost:
		return ReasonUncertain
	case t.copy.state != copyNone:
		return ReasonCopy
	case !t.client.Between() || !t.server.Between():
		return ReasonPartial
	case t.unit || t.skipping:
		return ReasonUnit
	case t.doubt.open():
		return ReasonUncertain
	case t.queue.n > 0 || t.doubt.most > 0:
		return ReasonOutstanding
	case t.Status() != 'I':
		return ReasonTransaction
	}
	return ""
}

// Working reports that the server has requests whose answers come without another byte of the
// client: false where the count was given up, and where the server waits for the data of a COPY.
func (t *Tracker) Working() bool {
	if t.lost || t.queue.n == 0 {
		return false
	}
	return !t.copy.open()
}

// Owes reports that one of these answers is a ReadyForQuery, which the server gives in any case.
func (t *Tracker) Owes() bool {
	return t.Working() && (t.queue.head().ready() || t.queue.any(kind.ready))
}

// ClientFrames is the number of frames that the client has begun so far: unequal to an earlier
// value, the session may have changed.
func (t *Tracker) ClientFrames() uint64 { return t.frames }

// ServerBetween reports that the server's bytes that have been observed end with a whole frame.
func (t *Tracker) ServerBetween() bool { return t.server.Between() }

// ServerPartial reports that only a part of the server's last frame has been forwarded: nothing may
// be put in between.
func (t *Tracker) ServerPartial() bool { return !t.server.Between() && len(t.server.held) == 0 }

// ParsesPending reports that Parse frames of unnamed statements are on their way: which of them the
// server takes is not known yet.
func (t *Tracker) ParsesPending() bool { return t.pending.count > 0 || t.lost }

// Settle clears an uncertain count on the word of the side check: pg_stat_activity shows the
// backend idle, and nothing was forwarded to it since well before that. It has no effect while a
// part of a frame is forwarded.
func (t *Tracker) Settle() {
	if !t.client.Between() || !t.server.Between() || !t.lost && !t.doubt.open() {
		return
	}
	if t.queue.n > 0 && t.Filter != nil {
		t.Filter.Lost()
	}
	t.forget()
	t.lost = false
	t.status = 'I'
}

// lose gives up the count. The bytes still flow; the session just is no candidate for a move.
func (t *Tracker) lose() {
	t.forget()
	t.lost = true
	if t.Filter != nil {
		t.Filter.Lost()
	}
	if t.Observer != nil {
		t.Observer.Parse(nil)
	}
}

func (t *Tracker) forget() {
	t.queue.reset()
	t.unit, t.skipping = false, false
	t.copy = copying{}
	t.doubt = doubt{}
	if t.recording {
		t.recording = false
		t.pending.drop()
	}
	t.pending.clear()
	t.pending.idle()
}

// ClientLimit says how many bytes of p, which has not been observed yet, may be forwarded in drain
// mode, so that the session stops at the earliest boundary. The rest of a partly forwarded frame
// always may. At a boundary, or while replies to complete units are awaited, nothing more may;
// otherwise everything up to the end of the frame that ends the unit: Query, FunctionCall, Sync, or
// the end of COPY data. Call it again whenever the server's bytes have been observed.
func (t *Tracker) ClientLimit(p []byte) int {
	if t.lost || t.closed {
		return len(p)
	}
	d := drain{
		unit:     t.unit,
		skipping: t.skipping,
		copying:  t.copy.open(),
		waiting:  t.queue.n > 0 || t.doubt.least > 0,
		inside:   t.Status() != 'I' || t.doubt.most > 0,
	}
	c := t.client.Cursor
	for at := 0; at < len(p); {
		if c.Between() && d.stop() {
			return at
		}
		typ := c.head[0]
		if c.Between() {
			typ = p[at]
		}
		n, err := c.step(p[at:])
		if err != nil {
			break // Client refuses what is malformed
		}
		if at += n; c.Between() {
			d.frame(typ)
		}
	}
	return len(p)
}

// drain is the client's side of the count, run ahead over bytes that have not gone yet.
type drain struct {
	unit, skipping, copying, waiting, inside bool
}

func (d *drain) stop() bool {
	if d.copying || d.unit || d.skipping {
		return false
	}
	return d.waiting || !d.inside
}

func (d *drain) frame(typ byte) {
	switch typ {
	case 'S':
		if !d.copying {
			d.unit, d.skipping, d.waiting = false, false, true
		}
	case 'Q', 'F':
		if !d.skipping {
			d.unit, d.waiting = false, true
		}
	case 'P', 'B', 'D', 'E', 'C':
		d.unit = true
	case 'c', 'f':
		d.copying = false
	case 'X':
		*d = drain{waiting: true}
	}
}

const (
	// maxPendingParse bounds the bytes of unnamed Parse frames that wait for their ParseComplete.
	maxPendingParse = 4 << 20
	// keepPending is what an idle session may keep, in bytes.
	keepPending = 16 << 10

	unknownLength = ^uint32(0)
)

// pendingParse keeps the bodies of unnamed Parse frames until the server has answered them: only
// then is it known which of them is the session's unnamed statement. Records are a length word and
// the body, oldest first.
type pendingParse struct {
	buf   []byte
	from  int // first record that is not answered
	count int // complete records
	mark  int // start of the record that is being written, -1 for none
}

// open starts a record of a body of that size. A body that is too large is recorded without its
// bytes.
func (u *pendingParse) open(size uint32) {
	if u.count == 0 {
		u.clear()
	}
	u.mark = len(u.buf)
	if size > MaxObservedParse || len(u.buf)+int(size) > maxPendingParse {
		size = unknownLength
	}
	u.buf = binary.BigEndian.AppendUint32(u.buf, size)
}

// add appends a part of the body to the open record.
func (u *pendingParse) add(part []byte) {
	if binary.BigEndian.Uint32(u.buf[u.mark:]) != unknownLength {
		u.buf = append(u.buf, part...)
	}
}

// keep completes the open record; drop forgets it.
func (u *pendingParse) keep() { u.count++ }

func (u *pendingParse) drop() {
	u.buf = u.buf[:u.mark]
	if u.count == 0 {
		u.clear()
	}
}

// pop returns the oldest record's body, nil when it was too large. It is valid until the next call
// of any method.
func (u *pendingParse) pop() []byte {
	n := binary.BigEndian.Uint32(u.buf[u.from:])
	u.from += 4
	u.count--
	if n == unknownLength {
		return nil
	}
	body := u.buf[u.from : u.from+int(n) : u.from+int(n)]
	u.from += int(n)
	return body
}

// idle releases memory once nothing is pending and no record is open.
func (u *pendingParse) idle() {
	if u.count == 0 && cap(u.buf) > keepPending {
		u.buf = nil
		u.from = 0
	}
}

func (u *pendingParse) clear() { u.buf, u.from, u.count = u.buf[:0], 0, 0 }
