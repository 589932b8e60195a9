package wire

// Filter changes what passes between a client and its server. One frame at a time is shown to it
// whole, in the order in which the frames come, and under the session's lock. A Tracker has at most
// one; it belongs to the server.
type Filter interface {
	// ClientHolds says how large a frame of that type may be, in bytes, for ClientFrame to get it;
	// 0 means that frames of the type pass. It is asked at the first byte of each frame.
	ClientHolds(typ byte) int
	// Ahead appends what the server is to get ahead of a frame that is held: frames of which the
	// Tracker knows (Late, LateAlone). A frame that is too large is shown by its first PrefixLen
	// bytes.
	Ahead(dst, frame []byte) []byte
	// ClientFrame returns what goes in the place of a frame: the frame itself, perhaps changed in
	// place, or other bytes, which are valid until the next call. queued says that it has been
	// entered into the queue of what the server owes: it has not where the server passes over it.
	ClientFrame(frame []byte, queued bool) []byte
	// ClientLarge is told of a frame that was too large to be held.
	ClientLarge(typ byte, queued bool)

	// ServerHolds and ServerFrame are the same for the server's frames. What they are answers to
	// is not counted yet. ServerFrame returns nothing for a frame that the client is not to get.
	ServerHolds(typ byte) int
	ServerFrame(frame []byte) []byte

	// Answered, Refused and Lost say what became of the requests that are owed: each Parse, Bind,
	// Describe, Execute, Close and Query that was queued, in this order. Answered: the oldest has
	// its answer. Refused: the n oldest were refused, or passed over. Lost: the count was given up.
	Answered()
	Refused(n int)
	Lost()
}

// Follower is shown the bodies of the client's frames, in any cut.
type Follower interface {
	// Begin is the head of a frame; it reports whether its body, of that size, is of use.
	Begin(typ byte, size uint32) bool
	// Part is the next part of such a body, and whether it is the last one. It is valid only during
	// the call.
	Part(p []byte, last bool)
}

const (
	// PrefixLen is how much of a frame that is too large to be held is held, in bytes, so that its
	// beginning can be looked at.
	PrefixLen = 64 << 10
	// keepHeld is what stays allocated between two frames, in bytes.
	keepHeld = 16 << 10
)

// listener is what a Tracker does with the frames of one direction.
type listener interface {
	// bulk is the length of whole frames at the start of p that nothing has to be known of.
	bulk(p []byte) int
	// begin is the first byte of a frame, and returns how large it may be to be held.
	begin(typ byte) (hold int)
	// head is the end of a frame's header, and part what has come of its body since the last call.
	head()
	part(p []byte)
	// prefix is the beginning of a frame that is too large.
	prefix(held []byte)
	// whole is a frame that is held; it returns what goes in its place.
	whole(frame []byte) ([]byte, error)
	// passed is the end of a frame that is not held, and whether only because it is too large.
	passed(large bool) error
}

// walker cuts the bytes of one direction into frames: the only place that does so with bytes that
// come in parts.
type walker struct {
	Cursor
	hold int    // how large the frame under way may be to be held; 0 for one that passes
	held []byte // what has come of it
	over bool   // it is too large: its prefix has been shown, and the rest passes
	err  error  // that ended the walk

	out output
}

// run walks over p and returns what is to be forwarded, which may be part of p and is valid until
// the next call. After an error nothing is walked over any more, and the error is returned again.
func (w *walker) run(p []byte, l listener) ([]byte, error) {
	if w.err != nil {
		return nil, w.err
	}
	w.out.start(p)
	for at := 0; at < len(p); {
		if w.Between() {
			if n := l.bulk(p[at:]); n > 0 {
				w.out.through(at, at+n)
				at += n
				continue
			}
			w.hold = l.begin(p[at])
		}
		n, err := w.frame(p, at, l)
		if err != nil {
			w.err = err
			return nil, err
		}
		at += n
	}
	return w.out.end(), nil
}

// frame takes what p, from at on, has of one frame, and returns how much that is.
func (w *walker) frame(p []byte, at int, l listener) (int, error) {
	n := 0
	if w.seen < HeadLen {
		var err error
		if n, err = w.header(p[at:]); err != nil {
			return 0, err
		}
		if w.seen == HeadLen {
			l.head()
		}
	}
	if w.seen == HeadLen {
		m := w.body(p[at+n:])
		l.part(p[at+n : at+n+m])
		n += m
	}
	part, ended := p[at:at+n:at+n], w.ended()
	var err error
	switch {
	case w.hold == 0:
		w.out.through(at, at+n)
		if ended {
			err = l.passed(w.over)
		}
	case ended && len(w.held) == 0:
		var now []byte
		if now, err = l.whole(part); len(now) == n && &now[0] == &part[0] {
			w.out.through(at, at+n)
		} else {
			w.out.add(now)
		}
	default:
		w.held = append(w.held, part...)
		if ended {
			var now []byte
			now, err = l.whole(w.held)
			w.out.add(now)
			w.release()
		} else if w.seen == HeadLen && HeadLen+int(w.size) > w.hold && len(w.held) >= PrefixLen {
			l.prefix(w.held)
			w.out.add(w.held)
			w.release()
			w.hold, w.over = 0, true
		}
	}
	if ended {
		w.next()
		w.over = false
	}
	return n, err
}

// release forgets what was held.
func (w *walker) release() {
	if w.held = w.held[:0]; cap(w.held) > keepHeld {
		w.held = nil
	}
}

// output is what is forwarded of p: a run of p itself, as long as nothing is inserted or left out.
type output struct {
	p        []byte
	from, to int
	copied   bool // it is in buf instead
	buf      []byte
}

func (o *output) start(p []byte) { *o = output{p: p, buf: o.buf[:0]} }

// end returns the output, and lets go of p.
func (o *output) end() []byte {
	result := o.p[o.from:o.to]
	if o.copied {
		result = o.buf
	}
	o.p = nil
	if cap(o.buf) > keepHeld {
		o.buf = nil
	}
	return result
}

// through forwards a part of p.
func (o *output) through(from, to int) {
	switch {
	case o.copied:
		o.buf = append(o.buf, o.p[from:to]...)
	case o.from == o.to:
		o.from, o.to = from, to
	case o.to == from:
		o.to = to
	default:
		o.add(o.p[from:to])
	}
}

// add forwards other bytes.
func (o *output) add(b []byte) {
	if !o.copied {
		o.copied = true
		o.buf = append(o.buf, o.p[o.from:o.to]...)
	}
	o.buf = append(o.buf, b...)
}
