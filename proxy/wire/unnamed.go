package wire

import "encoding/binary"

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
