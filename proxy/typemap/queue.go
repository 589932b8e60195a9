package typemap

// expect is an answer that the server owes, or the end of COPY data from the client.
type expect struct {
	kind byte // 'P' 'B' 'D' 'E' 'C' 'S' 'Q' 'F', as the client's frame; 'c' after COPY data
	sub  byte // of 'D' and 'C': 'S' or 'P'
	name string
	st   *statement // that 'P' made, that 'D' is about, or that 'Q' runs
	p    *portal    // that 'B' made, that 'D' is about, or that 'E' runs

	begun bool // of 'E': its rows have been prepared for

	wasSt *statement // under the name before 'P' or 'C'
	wasP  *portal    // the same for 'B' and 'C'
}

// queue holds what is owed, in order.
type queue struct {
	list []expect
	head int
}

func (q *queue) push(e expect) {
	if q.head > 0 && q.head == len(q.list) {
		q.list, q.head = q.list[:0], 0
	}
	q.list = append(q.list, e)
}

// first returns what comes next, nil when nothing is owed.
func (q *queue) first() *expect {
	if q.head == len(q.list) {
		return nil
	}
	return &q.list[q.head]
}

func (q *queue) pop() {
	q.list[q.head] = expect{}
	q.head++
}

// rest returns all that is owed.
func (q *queue) rest() []expect { return q.list[q.head:] }

// remove takes one out of the middle.
func (q *queue) remove(i int) {
	q.list = append(q.list[:q.head+i], q.list[q.head+i+1:]...)
}
