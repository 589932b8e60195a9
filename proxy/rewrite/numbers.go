package rewrite

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"

	"crossfade/proxy/state"
	"crossfade/proxy/wire"
)

// Backends translates, on the way to a server after a switch, the numbers of backends that clients
// know from before: a client of a moved session keeps the pid that it was told at its login, and on
// the other side no backend has that number, or another one does. In a text about backends
// (state.FindBackends) and in its bound parameters, the pid of one of our sessions is replaced by
// that of the server that serves it now. Called with the session's lock held.
type Backends struct {
	now        func(pid uint32) (now uint32, other bool) // the server's for a client's
	statements map[string][]int                          // parameters that are numbers of backends, by prepared statement
	out        []byte                                    // what frame returned last, where that was not the frame itself
}

// NewBackends makes the translation of a session: now returns the pid of the server of a session
// that clients know by that one, and whether it is another; statements are the parameters of those
// that are prepared already.
func NewBackends(now func(pid uint32) (uint32, bool), statements map[string][]int) *Backends {
	return &Backends{now: now, statements: statements}
}

// maxNumbered is how large a frame may be, in bytes, that is held to be inspected. A text about
// backends is short.
const maxNumbered = 64 << 10

// holds reports whether a frame of that type may contain numbers of backends.
func (n *Backends) holds(typ byte) bool {
	return n != nil && (typ == 'Q' || typ == 'P' || typ == 'B' && len(n.statements) > 0)
}

// frame returns a frame with its numbers translated. The result is valid until the next call.
func (n *Backends) frame(f []byte) []byte {
	if n == nil {
		return f
	}
	var edits []edit
	body := f[wire.HeadLen:]
	switch f[0] {
	case 'Q':
		edits = n.simple(body)
	case 'P':
		name, text, ok := bytes.Cut(body, []byte{0})
		if !ok {
			break
		}
		var params []int
		edits = n.text(text, wire.HeadLen+len(name)+1, &params)
		delete(n.statements, string(name))
		n.remember(string(name), params)
	case 'B':
		edits = n.bind(body)
	}
	return n.replace(f, edits)
}

// MaxNumbered bounds what a client can make the proxy remember.
const MaxNumbered = 1000

// remember keeps which parameters of a prepared statement are numbers of backends.
func (n *Backends) remember(name string, params []int) {
	if len(params) == 0 || len(n.statements) >= MaxNumbered {
		return
	}
	if n.statements == nil {
		n.statements = map[string][]int{}
	}
	n.statements[name] = params
}

// simple returns the edits of a simple query. If it prepares a statement, the parameters are those
// of the statement.
func (n *Backends) simple(body []byte) []edit {
	var params []int
	edits := n.text(body, wire.HeadLen, &params)
	body, _, _ = bytes.Cut(body, []byte{0})
	if len(params) > 0 {
		if name, ok := state.Prepares(string(body)); ok {
			n.remember(name, params)
		}
	}
	if len(n.statements) == 0 || !state.Executes(body) {
		return edits
	}
	for _, l := range state.FindExecuted(string(body), n.statements) {
		if now, ok := n.translate(body[l[0]:l[1]]); ok && !slices.ContainsFunc(edits, func(e edit) bool { return e.from == wire.HeadLen+l[0] }) {
			edits = append(edits, edit{from: wire.HeadLen + l[0], to: wire.HeadLen + l[1], with: now})
		}
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.from - b.from })
	return edits
}

// edit is a part of a frame that is replaced.
type edit struct {
	from, to int
	with     []byte
	counted  bool // its length is ahead of it, in four bytes
}

func (n *Backends) replace(f []byte, edits []edit) []byte {
	if len(edits) == 0 {
		return f
	}
	out, at := n.out[:0], 0
	for _, e := range edits {
		out = append(out, f[at:e.from]...)
		if e.counted {
			binary.BigEndian.PutUint32(out[len(out)-4:], uint32(len(e.with)))
		}
		out = append(out, e.with...)
		at = e.to
	}
	out = append(out, f[at:]...)
	binary.BigEndian.PutUint32(out[1:], uint32(len(out)-1))
	n.out = out
	return out
}

// text returns the edits of a text at that place of a frame, up to its NUL.
func (n *Backends) text(b []byte, at int, params *[]int) (edits []edit) {
	b, _, _ = bytes.Cut(b, []byte{0})
	if !state.AboutBackends(b) {
		return nil
	}
	found := state.FindBackends(string(b))
	if params != nil {
		*params = found.Params
	}
	for _, l := range found.Literals {
		if now, ok := n.translate(b[l[0]:l[1]]); ok {
			edits = append(edits, edit{from: at + l[0], to: at + l[1], with: now})
		}
	}
	return edits
}

// bind returns the edits of the body of a Bind. Of the numbers of an array only those in
// text are translated.
func (n *Backends) bind(b []byte) (edits []edit) {
	at := wire.HeadLen
	take := func(k int) []byte {
		if k < 0 || k > len(b) {
			b = nil
			return nil
		}
		v := b[:k]
		b, at = b[k:], at+k
		return v
	}
	take(bytes.IndexByte(b, 0) + 1)
	name := take(bytes.IndexByte(b, 0) + 1)
	if len(name) == 0 {
		return nil
	}
	params := n.statements[string(name[:len(name)-1])]
	count := func() int {
		if v := take(2); len(v) == 2 {
			return int(binary.BigEndian.Uint16(v))
		}
		return 0
	}
	take(2 * count()) // formats: a value of digits is text, one of four or eight bytes is not
	for i, of := 0, count(); i < of; i++ {
		v := take(4)
		if len(v) < 4 {
			return edits
		}
		length := int(int32(binary.BigEndian.Uint32(v)))
		if length < 0 {
			continue
		}
		from := at
		v = take(length)
		if len(v) != length {
			return edits
		}
		for _, k := range params {
			if k != i {
				continue
			}
			if now, ok := n.value(v); ok {
				edits = append(edits, edit{from: from, to: from + length, with: now, counted: true})
			}
			break
		}
	}
	return edits
}

// value translates a value that is bound, in either format.
func (n *Backends) value(v []byte) ([]byte, bool) {
	digits := func(b []byte) bool {
		return len(b) > 0 && bytes.IndexFunc(b, func(c rune) bool { return c < '0' || c > '9' }) < 0
	}
	switch {
	case digits(v):
		return n.translate(v)
	case len(v) > 1 && v[0] == '{':
		changed := false
		var list [][]byte
		for _, d := range bytes.Split(bytes.Trim(v, "{}"), []byte{','}) {
			if now, ok := n.translate(d); ok {
				d, changed = now, true
			}
			list = append(list, d)
		}
		return append(append([]byte{'{'}, bytes.Join(list, []byte{','})...), '}'), changed
	case len(v) == 4:
		if now, ok := n.now(binary.BigEndian.Uint32(v)); ok {
			return binary.BigEndian.AppendUint32(nil, now), true
		}
	case len(v) == 8 && binary.BigEndian.Uint32(v) == 0:
		if now, ok := n.now(binary.BigEndian.Uint32(v[4:])); ok {
			return binary.BigEndian.AppendUint64(nil, uint64(now)), true
		}
	}
	return nil, false
}

func (n *Backends) translate(digits []byte) ([]byte, bool) {
	pid, err := strconv.ParseUint(string(digits), 10, 32)
	if err != nil {
		return nil, false
	}
	now, ok := n.now(uint32(pid))
	return strconv.AppendUint(nil, uint64(now), 10), ok
}
