package wire

// doubt is what remains unknown after an error in a COPY FROM STDIN into which Syncs had been sent: the server ignored those
// that it read before the error and answers the others. Between least and most ReadyForQuery are still to come, ahead
// of everything in the queue.
type doubt struct {
	least, most int
	skipping    bool // the server may still discard up to a Sync
}

func (d *doubt) open() bool { return d.least != d.most }

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

// copyError is an ErrorResponse in a COPY FROM STDIN that Syncs were sent into.
func (t *Tracker) copyError(head kind) bool {
	if t.queue.any(func(k kind) bool { return k != kindSync && k != kindCopyEnd }) {
		return false // what runs of the rest depends on which Sync ended the discarding
	}
	certain := 0
	for i := 1; i < t.queue.n; i++ {
		if t.queue.at(i) == kindSync {
			certain++
		}
	}
	if head == kindQuery {
		certain++ // the query's own
		if t.Observer != nil {
			t.Observer.Simple()
		}
	}
	t.doubt = doubt{
		least:    certain,
		most:     certain + t.copy.swallowed,
		skipping: head != kindQuery && certain == 0,
	}
	t.queue.reset()
	t.unit = false
	t.copy = copying{}
	return true
}
