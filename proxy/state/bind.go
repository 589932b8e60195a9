package state

import (
	"bytes"
	"encoding/binary"
	"slices"

	"crossfade/internal/base/walk"
)

// Bind learns, from the body of a Bind whose end may be missing, the parameters that its statement
// uses as names of settings. In both formats the value of a text is its bytes.
func (n *Names) Bind(body []byte) {
	_, rest, ok := bytes.Cut(body, []byte{0}) // the portal
	if !ok {
		return
	}
	statement, rest, ok := bytes.Cut(rest, []byte{0})
	if !ok {
		return
	}
	params := n.params(statement)
	if len(params) == 0 {
		return
	}
	v := walk.Bytes{Rest: rest}
	v.Take(2 * v.Count()) // formats
	n.pick(params, &v)
}

// Call learns from the body of a FunctionCall.
func (n *Names) Call(body []byte) {
	if len(body) < 4 || binary.BigEndian.Uint32(body) != setConfigOID {
		return
	}
	v := walk.Bytes{Rest: body[4:]}
	v.Take(2 * v.Count())
	n.pick([]int{0}, &v)
}

// setConfigOID is the OID of pg_catalog.set_config in every version of PostgreSQL.
const setConfigOID = 2078

// pick learns the values at these positions.
func (n *Names) pick(params []int, v *walk.Bytes) {
	last := slices.Max(params)
	count := v.Count()
	for i := range min(count, last+1) {
		value, _ := v.Value()
		if !v.Bad && value != nil && slices.Contains(params, i) {
			n.Add(string(value))
		}
	}
	if v.Bad {
		n.Opaque("a value of more than a megabyte ahead of the name of a setting")
	}
}
