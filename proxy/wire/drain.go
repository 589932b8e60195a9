package wire

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
