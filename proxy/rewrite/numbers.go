package rewrite

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/walk"
	"crossfade/proxy/state"
	"crossfade/proxy/typemap"
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

// frame returns a frame with its numbers translated.
func (n *Backends) frame(f []byte) []byte {
	if n == nil {
		return f
	}
	var edits []typemap.Edit
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
	return typemap.Replace(f, edits)
}

// MaxNumbered bounds what a client can make the proxy remember.
const MaxNumbered = 1000

// remember keeps which parameters of a prepared statement are numbers of backends.
func (n *Backends) remember(name string, params []int) {
	if len(params) > 0 && len(n.statements) < MaxNumbered {
		lists.Put(&n.statements, name, params)
	}
}

// simple returns the edits of a simple query. If it prepares a statement, the parameters are those
// of the statement.
func (n *Backends) simple(body []byte) []typemap.Edit {
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
		at := wire.HeadLen + l[0]
		known := slices.ContainsFunc(edits, func(e typemap.Edit) bool { return e.At == at })
		if now, ok := n.translate(body[l[0]:l[1]]); ok && !known {
			edits = append(edits, typemap.Edit{At: at, Old: l[1] - l[0], Text: now, Bare: true})
		}
	}
	slices.SortFunc(edits, func(a, b typemap.Edit) int { return a.At - b.At })
	return edits
}

// text returns the edits of a text at that place of a frame, up to its NUL.
func (n *Backends) text(b []byte, at int, params *[]int) (edits []typemap.Edit) {
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
			edits = append(edits, typemap.Edit{At: at + l[0], Old: l[1] - l[0], Text: now, Bare: true})
		}
	}
	return edits
}

// bind returns the edits of the body of a Bind. Of the numbers of an array only those in
// text are translated.
func (n *Backends) bind(b []byte) (edits []typemap.Edit) {
	w := walk.Bytes{Rest: b}
	w.Text()
	params := n.statements[string(w.Text())]
	w.Take(2 * w.Count()) // formats: a value of digits is text, one of four or eight bytes is not
	for i, of := 0, w.Count(); i < of && !w.Bad; i++ {
		v, null := w.Value()
		if null || w.Bad || !slices.Contains(params, i) {
			continue
		}
		if now, ok := n.value(v); ok {
			at := wire.HeadLen + len(b) - len(w.Rest) - len(v) - 4
			edits = append(edits, typemap.Edit{At: at, Old: len(v), Text: now})
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
