package wire

// doubt is what remains unknown after an error in a COPY FROM STDIN into which Syncs had been sent:
// the server ignored those that it read before the error and answers the others. Between least and
// most ReadyForQuery are still to come, ahead of everything in the queue.
type doubt struct {
	least, most int
	skipping    bool // the server may still discard up to a Sync
}

func (d *doubt) open() bool { return d.least != d.most }

// begin is an ErrorResponse to the head, in a COPY into which that many Syncs were sent. It reports
// false where what runs of the rest depends on which Sync ended the discarding.
func (d *doubt) begin(head kind, q *queue, swallowed int) bool {
	if q.any(func(k kind) bool { return k != kindSync && k != kindCopyEnd }) {
		return false
	}
	certain := 0
	for i := 1; i < q.n; i++ {
		if q.at(i) == kindSync {
			certain++
		}
	}
	if head == kindQuery {
		certain++ // the query's own
	}
	*d = doubt{least: certain, most: certain + swallowed, skipping: head != kindQuery && certain == 0}
	return true
}

// sync: one more Sync that is answered for certain.
func (d *doubt) sync() {
	d.least++
	d.most++
	d.skipping = false
}

// ready: a ReadyForQuery came.
func (d *doubt) ready() {
	d.most--
	d.least = max(d.least-1, 0)
	d.skipping = false
}
